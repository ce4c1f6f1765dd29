"""What can go wrong between artifacts and a Ray cluster that serves them."""

from shipway.deploy.errors import DeployError
from shipway.extras import install_command


class RayMissing(DeployError):
    def __init__(self, error: ImportError) -> None:
        super().__init__(
            f'Deploying to Ray needs the extra "ray" ({error}): {install_command("ray")}.'
        )


class ClusterUnusable(DeployError):
    """There is no Ray cluster at an address, or none that this Ray can talk to."""


class DoesNotFit(DeployError):
    """A node of the cluster cannot serve an artifact."""


class NotAsCertified(DeployError):
    """A program's outputs for the sealed samples are not those that it is certified for."""


class DeployFailed(DeployError):
    """Serve could not bring the applications up; what ran before runs."""
