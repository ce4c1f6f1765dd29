"""The configuration of Ray Serve for versions of models: plain data, for `serve deploy` as YAML.

Each version is a separate Serve application, because Serve restarts every deployment of an
application when its arguments change. One more application, the router, takes all requests. Only
the router knows which version is the default.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shipway.archive.layout import RESPONSE_TIMEOUT_S
from shipway.artifact.bundle import Artifact

CODE = "shipway.engines.ray.app"
ROUTER = "shipway"
"""The name of the router's application. Those of versions have an @ in their names."""
MAX_QUEUED = 100
"""Requests that may wait for a version in each router, as many as in config.properties."""
TIMEOUT_S = float(RESPONSE_TIMEOUT_S)
"""For a reply, as long as in the archives."""
LOGGING = {"enable_access_log": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version to serve, and the resources of each replica."""

    artifact: Artifact
    default: bool = True
    """Whether it answers requests that name no version. One version of each model does."""
    workers: int | None = None
    """The number of replicas, as TorchServe's workers. None: a number within `scaling`."""
    batch_size: int | None = None
    """The most rows in a batch. None: the artifact's own setting."""
    max_batch_delay_ms: int | None = None
    """How long a batch waits for more rows. None: the artifact's own setting."""
    cores: int | None = None
    """Cores of each replica. None: the threads that were fastest on the exporting host."""
    scaling: tuple[int, int] = (1, 4)
    """The least and the most replicas if `workers` is None."""

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.artifact.manifest.name

    @property
    def version(self) -> str:
        """The version of the model."""
        return self.artifact.manifest.version

    @property
    def application(self) -> str:
        """The name of its Serve application."""
        return f"{self.name}@{self.version}"

    @property
    def replicas(self) -> tuple[int, int]:
        """The least and the most replicas."""
        return (self.workers, self.workers) if self.workers else self.scaling

    @property
    def rows(self) -> int:
        """The most rows in a batch."""
        return self.batch_size or self.artifact.manifest.serving.batch_size

    @property
    def delay_ms(self) -> int:
        """How long a batch waits for more rows."""
        delay_ms = self.max_batch_delay_ms
        return self.artifact.manifest.serving.max_batch_delay_ms if delay_ms is None else delay_ms

    @property
    def threads(self) -> int:
        """The threads, and so the cores, of each replica."""
        return self.cores or self.artifact.manifest.serving.threads

    @property
    def gpus(self) -> int:
        """The GPUs of each replica."""
        manifest = self.artifact.manifest
        return int(manifest.programs[manifest.chosen].device == "cuda")


def serve_config(
    versions: Sequence[Version], *, host: str = "127.0.0.1", port: int = 8000, nodes: int = 1
) -> dict[str, Any]:
    """The configuration for a cluster of `nodes` nodes. Each listens at `host` and `port`."""
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": host, "port": port, "request_timeout_s": TIMEOUT_S},
        "applications": [*map(application, versions), router(routes(versions), nodes)],
    }


def routes(versions: Sequence[Version]) -> dict[str, Any]:
    """The router's table: for each model its default version, and each version's application."""
    table: dict[str, Any] = {}
    for version in versions:
        route = table.setdefault(version.name, {"default": "", "versions": {}})
        route["versions"][version.version] = version.application
        if version.default:
            route["default"] = version.version
    return table


def application(version: Version) -> dict[str, Any]:
    """The Serve application of one version."""
    least, most = version.replicas
    return {
        "name": version.application,
        "route_prefix": None,  # only the router has one
        "logging_config": dict(LOGGING),
        "import_path": f"{CODE}:model",
        "args": {
            "artifact": str(version.artifact.path.absolute()),
            "digest": version.artifact.digest,
            "threads": version.threads,
            "batch_size": version.rows,
            "max_batch_delay_ms": version.delay_ms,
        },
        "deployments": [
            {
                "name": "Model",
                "ray_actor_options": {"num_cpus": version.threads, "num_gpus": version.gpus},
                # One batch runs while the requests of the next one arrive.
                "max_ongoing_requests": 2 * version.rows,
                "max_queued_requests": MAX_QUEUED,
                "autoscaling_config": {
                    "min_replicas": least,
                    "max_replicas": most,
                    # Waiting and running requests of each replica: one full batch.
                    "target_ongoing_requests": version.rows,
                },
            }
        ],
    }


def router(models: Mapping[str, Any], nodes: int) -> dict[str, Any]:
    """The Serve application that takes all requests. `models` is a table made by `routes`."""
    return {
        "name": ROUTER,
        "route_prefix": "/",
        "logging_config": dict(LOGGING),
        "import_path": f"{CODE}:router",
        "deployments": [
            {
                "name": "Router",
                "user_config": {"models": dict(models)},
                # It only forwards requests, so it reserves no core.
                "ray_actor_options": {"num_cpus": 0},
                "max_ongoing_requests": 500,
                # Otherwise Ray might place all of them on one node.
                "num_replicas": nodes,
                "max_replicas_per_node": 1,
            }
        ],
    }
