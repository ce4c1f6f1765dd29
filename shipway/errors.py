"""The base of every error that a user can cause."""


class ShipwayError(Exception):
    """Its text says what was found, what was expected, what to do; users read it as it is."""
