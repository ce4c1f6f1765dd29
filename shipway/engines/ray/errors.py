"""What can go wrong between artifacts and a Ray cluster that serves them."""

from shipway.engines.errors import ServerError
from shipway.extras import install_command


class RayServeError(ServerError):
    """Base of every error that this package raises."""


class RayMissing(RayServeError):
    """The extra `ray` is not installed."""

    def __init__(self, error: ImportError) -> None:
        super().__init__(
            f'Deploying to Ray needs the extra "ray" ({error}): {install_command("ray")}.'
        )


class ClusterUnusable(RayServeError):
    """There is no Ray cluster at an address, or none that this Ray can talk to."""


class DoesNotFit(RayServeError):
    """A node of the cluster cannot serve an artifact."""


class OtherArtifact(RayServeError):
    """A version, or the folder of an artifact, holds another artifact than the one deployed."""


class NotAsCertified(RayServeError):
    """A program's outputs for the sealed samples are not those that it is certified for."""


class DeployFailed(RayServeError):
    """Serve could not bring the applications up. What ran before still runs."""
