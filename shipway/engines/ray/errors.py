"""What can go wrong between artifacts and a Ray cluster that serves them."""

from shipway.deploy.errors import DeployError


class RayMissing(DeployError):
    def __init__(self, error: ImportError) -> None:
        super().__init__(
            f"Ray Serve is not installed ({error}). It comes with the extra `ray`: "
            "uv pip install --editable '.[ray]'."
        )


class ClusterUnusable(DeployError):
    """There is no Ray cluster at an address, or none that this Ray can talk to."""


class DoesNotFit(DeployError):
    """A node of the cluster cannot serve an artifact."""


class NotAsCertified(DeployError):
    """A program's outputs for the sealed samples are not those that it is certified for."""


class DeployFailed(DeployError):
    """Serve could not bring the applications up; what ran before runs."""
