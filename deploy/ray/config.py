"""Versions of models to the config of Ray Serve: plain data, that `serve deploy` takes as YAML.

Each version is a Serve application of its own, since Serve restarts every deployment of an
application when its arguments change. One more, the router, has the address and knows them all; it
alone is told which version is the default.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.ray.errors import NotDeployable
from shipway.artifact.bundle import Artifact

CODE = "deploy.ray.app"
ROUTER = "shipway"
"""The router's application; a version's has an @ in its name."""
MAX_QUEUED = 100
"""Requests that may wait for a version in each router, as config.properties has it."""
TIMEOUT_S = 60.0
"""For an answer, as the archives have it."""
LOGGING = {"enable_access_log": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version to be served, and how: what the command line says, or a file of models."""

    artifact: Artifact
    default: bool = False
    """Whether it answers requests that name no version; the only version of a name always does."""
    cores: int | None = None
    """Of each replica; None for the threads that did best on the exporting host."""
    replicas: tuple[int, int] = (1, 4)
    """The least and the most of them."""

    @property
    def name(self) -> str:
        return self.artifact.manifest.name

    @property
    def version(self) -> str:
        return self.artifact.manifest.version

    @property
    def application(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def threads(self) -> int:
        return self.cores or self.artifact.manifest.serving.threads

    @property
    def gpus(self) -> int:
        manifest = self.artifact.manifest
        return int(manifest.programs[manifest.chosen].device == "cuda")


def serve_config(
    versions: Sequence[Version], *, host: str = "127.0.0.1", port: int = 8000, nodes: int = 1
) -> dict[str, Any]:
    """For a cluster of so many nodes, each of which listens at `host` and `port`.

    Raises NotDeployable if a name has two defaults, or none, or a version is there twice.
    """
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": host, "port": port, "request_timeout_s": TIMEOUT_S},
        "applications": [*map(_application, versions), _router(routes(versions), nodes)],
    }


def routes(versions: Sequence[Version]) -> dict[str, Any]:
    """By name, the default version and the application of each version. Raises NotDeployable."""
    by_name: dict[str, list[Version]] = defaultdict(list)
    for each in versions:
        by_name[each.name].append(each)
    return {
        name: {
            "default": _default(name, alike),
            "versions": {each.version: each.application for each in alike},
        }
        for name, alike in by_name.items()
    }


def _default(name: str, versions: Sequence[Version]) -> str:
    there = [each.version for each in versions]
    if len(set(there)) < len(there):
        raise NotDeployable(f"{name} is to be served in versions {', '.join(there)}: one is twice.")
    defaults = [each.version for each in versions if each.default]
    if len(defaults) > 1:
        raise NotDeployable(
            f"{name} has {len(defaults)} defaults, {' and '.join(defaults)}; one version must "
            "answer the requests that name none."
        )
    if not defaults and len(there) > 1:
        raise NotDeployable(
            f"{name} has versions {', '.join(there)} and no default. Say which answers the "
            f"requests that name none: --default {name}={there[-1]}."
        )
    return (defaults or there)[0]


def _application(version: Version) -> dict[str, Any]:
    serving = version.artifact.manifest.serving
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
            "batch_size": serving.batch_size,
            "max_batch_delay_ms": serving.max_batch_delay_ms,
        },
        "deployments": [
            {
                "name": "Model",
                "ray_actor_options": {"num_cpus": version.threads, "num_gpus": version.gpus},
                # One batch runs while the next one gathers.
                "max_ongoing_requests": 2 * serving.batch_size,
                "max_queued_requests": MAX_QUEUED,
                "autoscaling_config": {
                    "min_replicas": least,
                    "max_replicas": most,
                    # Waiting and running, of each replica: a full batch, and none behind it.
                    "target_ongoing_requests": serving.batch_size,
                },
            }
        ],
    }


def _router(models: Mapping[str, Any], nodes: int) -> dict[str, Any]:
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
