"""The base class of all errors that a user can cause."""


class ShipwayError(Exception):
    """An error that a user can cause. Its text is shown as it is: what happened, what was expected,
    what to do."""
