"""The errors of serving artifacts on a Ray cluster."""

from shipway.engines.errors import ServerError
from shipway.extras import install_command


class RayServeError(ServerError):
    """Base of every error that this package raises."""


class RayMissing(RayServeError):
    """The extra `ray` is not installed."""

    def __init__(self, error: ImportError) -> None:
        super().__init__(
            f'Deploying to Ray needs the extra "ray" ({error}). '
            f"Install it with `{install_command('ray')}`."
        )


class ClusterUnusable(RayServeError):
    """There is no Ray cluster at an address, or this version of Ray cannot connect to it."""


class DoesNotFit(RayServeError):
    """A node of the cluster cannot serve an artifact."""


class OtherArtifact(RayServeError):
    """A version or a folder has another artifact than the one that was deployed."""


class NotAsCertified(RayServeError):
    """A program's outputs for the sealed samples differ by more than its certificate allows."""


class DeployFailed(RayServeError):
    """Serve could not start the applications. Those that ran before still run."""
