"""What can go wrong before a cluster is asked."""

from pathlib import Path

from shipway.errors import ShipwayError


class DeployError(ShipwayError):
    """Base of every error that this package raises."""


class NotDeployable(DeployError):
    """What was asked for contradicts itself, or what runs."""


class NotWritable(DeployError):
    """What is to be written cannot be, or would take the place of something else."""

    def __init__(self, path: Path, why: object) -> None:
        super().__init__(f"{path} cannot be written: {why}. Name another place with --output.")
