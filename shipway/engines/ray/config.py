"""Versions of models to the config of Ray Serve: plain data, that `serve deploy` takes as YAML.

Each version is a Serve application of its own, since Serve restarts every deployment of an
application when its arguments change. One more, the router, has the address and knows them all; it
alone is told which version is the default.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shipway.artifact.bundle import Artifact

CODE = "shipway.engines.ray.app"
ROUTER = "shipway"
"""The router's application; a version's has an @ in its name."""
MAX_QUEUED = 100
"""Requests that may wait for a version in each router, as config.properties has it."""
TIMEOUT_S = 60.0
"""For an answer, as the archives have it."""
LOGGING = {"enable_access_log": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version to be served, and what each of its replicas takes."""

    artifact: Artifact
    default: bool = True
    """Whether it answers requests that name no version. One version of each model does."""
    workers: int | None = None
    """Replicas, as many as TorchServe would have workers; None for a number within `scaling`."""
    batch_size: int | None = None
    """Rows in a batch, at most; None for what the artifact says."""
    max_batch_delay_ms: int | None = None
    """How long a batch waits for more rows; None for what the artifact says."""
    cores: int | None = None
    """Of each replica; None for the threads that did best on the exporting host."""
    scaling: tuple[int, int] = (1, 4)
    """The least and the most replicas, where `workers` does not say how many."""

    @property
    def name(self) -> str:
        """Of the model."""
        return self.artifact.manifest.name

    @property
    def version(self) -> str:
        """Of the model."""
        return self.artifact.manifest.version

    @property
    def application(self) -> str:
        """The name of its Serve application."""
        return f"{self.name}@{self.version}"

    @property
    def replicas(self) -> tuple[int, int]:
        """The least and the most."""
        return (self.workers, self.workers) if self.workers else self.scaling

    @property
    def rows(self) -> int:
        """In a batch, at most."""
        return self.batch_size or self.artifact.manifest.serving.batch_size

    @property
    def delay_ms(self) -> int:
        """How long a batch waits for more rows."""
        delay_ms = self.max_batch_delay_ms
        return self.artifact.manifest.serving.max_batch_delay_ms if delay_ms is None else delay_ms

    @property
    def threads(self) -> int:
        """Of each replica."""
        return self.cores or self.artifact.manifest.serving.threads

    @property
    def gpus(self) -> int:
        """Of each replica."""
        manifest = self.artifact.manifest
        return int(manifest.programs[manifest.chosen].device == "cuda")


def serve_config(
    versions: Sequence[Version], *, host: str = "127.0.0.1", port: int = 8000, nodes: int = 1
) -> dict[str, Any]:
    """For a cluster of so many nodes, each of which listens at `host` and `port`."""
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": host, "port": port, "request_timeout_s": TIMEOUT_S},
        "applications": [*map(application, versions), router(routes(versions), nodes)],
    }


def routes(versions: Sequence[Version]) -> dict[str, Any]:
    """By name, the default version and the application of each version."""
    table: dict[str, Any] = {}
    for each in versions:
        route = table.setdefault(each.name, {"default": "", "versions": {}})
        route["versions"][each.version] = each.application
        if each.default:
            route["default"] = each.version
    return table


def application(version: Version) -> dict[str, Any]:
    """The Serve application of one version."""
    least, most = version.replicas
    return {
        "name": version.application,
        "route_prefix": None,  # the router's alone
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
                # One batch runs while the next one gathers.
                "max_ongoing_requests": 2 * version.rows,
                "max_queued_requests": MAX_QUEUED,
                "autoscaling_config": {
                    "min_replicas": least,
                    "max_replicas": most,
                    # Waiting and running, of each replica: a full batch, and none behind it.
                    "target_ongoing_requests": version.rows,
                },
            }
        ],
    }


def router(models: Mapping[str, Any], nodes: int) -> dict[str, Any]:
    """The Serve application that has the address, with a table of models as `routes` makes it."""
    return {
        "name": ROUTER,
        "route_prefix": "/",
        "logging_config": dict(LOGGING),
        "import_path": f"{CODE}:router",
        "deployments": [
            {
                "name": "Router",
                "user_config": {"models": dict(models)},
                # It only passes requests on, so it takes no core from a model.
                "ray_actor_options": {"num_cpus": 0},
                "max_ongoing_requests": 500,
                # Ray would put them anywhere, all on one node too.
                "num_replicas": nodes,
                "max_replicas_per_node": 1,
            }
        ],
    }
