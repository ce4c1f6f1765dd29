"""What can be wrong with an archive."""

from shipway.errors import ShipwayError


class ArchiveError(ShipwayError):
    """A `.mar` that is not what it should be."""
