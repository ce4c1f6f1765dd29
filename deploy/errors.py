"""What can go wrong before a cluster is asked."""

from shipway.errors import ShipwayError


class DeployError(ShipwayError):
    """Base of every error that this package raises."""


class NotDeployable(DeployError):
    """What was asked for contradicts itself, or what runs."""
