"""What can be wrong with an archive, or with the store it is kept in."""

from shipway.errors import ShipwayError


class ArchiveError(ShipwayError):
    """A `.mar` that is not what it should be."""


class StoreError(ShipwayError):
    """A file that the model store cannot take, or that is no longer what it was."""
