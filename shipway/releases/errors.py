"""What can go wrong while what is served is changed."""

from shipway.errors import ShipwayError


class ReleaseError(ShipwayError):
    """Base of every error that this package raises."""


class ReleasesError(ReleaseError):
    """The file of releases cannot be read or written."""


class ChangeUnderWay(ReleaseError):
    """Another process is changing what is served at this moment."""


class NotPromoted(ReleaseError):
    """A version did not show that it can take over. The default did not change."""


class NoFallback(ReleaseError):
    """There is no version to roll back to."""


class NotApplicable(ReleaseError):
    """A server cannot be brought to what a models file says. Nothing was changed."""
