"""Errors of a deployment that are found before any cluster is contacted."""

from pathlib import Path

from shipway.errors import ShipwayError


class DeployError(ShipwayError):
    """The base of every error of this package."""


class NotDeployable(DeployError):
    """The request contradicts itself, or names something that cannot be deployed."""


class NotWritable(DeployError):
    """The output cannot be written, or would overwrite files that Shipway did not create."""

    def __init__(self, path: Path, why: object) -> None:
        super().__init__(f"Cannot write {path}: {why}. Choose another path with --output.")
