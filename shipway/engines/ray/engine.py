"""Ray Serve as an Engine, with two limits.

It opens artifacts itself, so it takes no archives. Each node exports its own metrics, so the
exporter has none to pass on.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NoReturn, NotRequired, TypedDict
from urllib.parse import quote

import httpx

from shipway.artifact.bundle import open_artifact
from shipway.engines import ENGINES
from shipway.engines.errors import (
    DefaultVersionInUse,
    ModelNotFound,
    PredictionFailed,
    Refused,
    Unreachable,
    UnsupportedByEngine,
    VersionExists,
    VersionNotFound,
    WorkersFailed,
)
from shipway.engines.protocol import (
    Deployable,
    EngineMetrics,
    Inferred,
    ModelVersion,
    SignaturePolicy,
    natural_order,
)
from shipway.engines.ray.config import (
    MAX_QUEUED,
    ROUTER,
    TIMEOUT_S,
    Version,
    application,
    router,
    serve_config,
)
from shipway.engines.ray.errors import DeployFailed, OtherArtifact, RayMissing
from shipway.engines.state import StateDirectory
from shipway.engines.tensors import pack, unpack

if TYPE_CHECKING:
    import numpy as np

    from shipway.engines.ray.cluster import Cluster

NAME = "Ray Serve"


class Route(TypedDict):
    """A model in the router's table."""

    default: str
    """Empty for a model without a default version."""
    versions: dict[str, str]
    """The name of each version's application."""
    reason: NotRequired[str]
    """Why there is no default version."""


@ENGINES.register("ray")
def connect(state: StateDirectory) -> "RayEngine":
    """The engine of the cluster that the record in `state` names as its management address.

    Raises NoServer, RayMissing or ClusterUnusable.
    """
    try:
        from shipway.engines.ray.cluster import cluster  # the extra `ray` is optional
    except ImportError as error:
        raise RayMissing(error) from error
    stack = ExitStack()
    opened = stack.enter_context(cluster(state.require_running().addresses.management))
    return RayEngine(opened, on_close=stack)


class RayEngine:
    """Ray Serve on one cluster. See `Engine` for its methods."""

    def __init__(
        self,
        cluster: "Cluster",
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        on_close: ExitStack | None = None,
    ) -> None:
        """Each node listens on `host` and `port` if Serve is not running yet. `on_close` is closed
        with this engine: it holds a cluster that was opened for it."""
        self._cluster = cluster
        self._host, self._port = host, port
        self._on_close = on_close or ExitStack()

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        """See `Engine`. Ray reports neither the memory of replicas nor how many requests wait.

        The process ids are those on the nodes where the replicas run.
        """
        details = self._cluster.details()["applications"]
        table = self._table(details)
        if name is not None and not (name in table and table[name]["versions"]):
            raise self._no_model(name, table)
        versions = [
            _model_version(model, version, details[route["versions"][version]], route["default"])
            for model, route in sorted(table.items())
            for version in sorted(route["versions"], key=natural_order)
        ]
        return [version for version in versions if name in (None, version.name)]

    def register(self, deployable: Deployable) -> None:
        """See `Engine`. Raises DoesNotFit if no node can serve it."""
        if deployable.artifact is None:
            raise UnsupportedByEngine(
                NAME,
                f"needs artifacts, not archives, but {deployable.name} {deployable.version} was "
                "given without an artifact",
                "Give the folder that `shipway export` wrote. It must be at the same path on every "
                "node.",
            )
        artifact = open_artifact(deployable.artifact)
        version = Version(
            artifact=artifact,
            workers=deployable.workers,
            batch_size=deployable.batch_size,
            max_batch_delay_ms=deployable.max_batch_delay_ms,
        )
        if (version.name, version.version) != (deployable.name, deployable.version):
            raise OtherArtifact(
                f"{deployable.artifact} contains {version.name} {version.version}, expected "
                f"{deployable.name} {deployable.version}. Give the artifact of that version."
            )
        applications, table = self._served()
        if version.application in applications:
            raise VersionExists(
                f"{version.name} {version.version} is already registered, and versions are "
                "immutable. Export the model under another version."
            )
        self._cluster.check([version])
        route = table.get(version.name, Route(default="", versions={}))
        applied = {version.version: version.application}
        table[version.name] = {**route, "versions": route["versions"] | applied}
        try:
            self._apply(applications | {version.application: application(version)}, table)
        except DeployFailed as error:
            raise WorkersFailed(str(error)) from error

    def scale(self, name: str, version: str, workers: int) -> None:
        """See `Engine`. It can also remove replicas."""
        applications, table = self._served()
        app = self._application(name, version, table)
        [deployment] = applications[app]["deployments"]
        bounds = {"min_replicas": workers, "max_replicas": workers}
        scaled = deployment | {"autoscaling_config": deployment["autoscaling_config"] | bounds}
        try:
            self._apply(applications | {app: applications[app] | {"deployments": [scaled]}}, table)
        except DeployFailed as error:
            raise WorkersFailed(str(error)) from error

    def set_default(self, name: str, version: str) -> None:
        """See `Engine`. Routers take the new default without a restart."""
        applications, table = self._served()
        self._application(name, version, table)
        table[name] = Route(default=version, versions=table[name]["versions"])
        self._apply(applications, table)

    def withhold_default(self, name: str, reason: str | None) -> None:
        """See `Engine`."""
        applications, table = self._served()
        versions = table[name]["versions"] if name in table else {}
        if reason is not None:
            table[name] = Route(default="", versions=versions, reason=reason)
        elif name in table and not versions:
            del table[name]
        else:
            return
        self._apply(applications, table)

    def unregister(self, name: str, version: str, *, drain_within_s: float = 0.0) -> bool:
        """See `Engine`. Routers forget the version first; Serve then lets its replicas answer what
        they have, for as long as Serve is configured to, whatever `drain_within_s` says."""
        applications, table = self._served()
        app = self._application(name, version, table)
        others = {
            other: name_of_app
            for other, name_of_app in table[name]["versions"].items()
            if other != version
        }
        if others and table[name]["default"] == version:
            raise DefaultVersionInUse(
                f"{version} is the default version of {name} and cannot be unregistered. Promote "
                f"another version first: {', '.join(others)}."
            )
        if others:
            table[name] = {**table[name], "versions": others}
        else:
            del table[name]
        self._apply({key: value for key, value in applications.items() if key != app}, table)
        return True

    def infer(
        self, name: str, inputs: "Mapping[str, np.ndarray]", *, version: str | None = None
    ) -> Inferred:
        """See `Engine`."""
        body, headers = pack(inputs)
        answer = self._send("POST", _path(name, version) + "/infer", body, headers)
        return Inferred(
            outputs=unpack(answer.content, answer.headers),
            program=answer.headers.get("shipway-program", ""),
        )

    def describe(self, name: str, version: str) -> dict[str, Any]:
        """See `Engine`. Returns only the metadata of the Open Inference Protocol."""
        return {"metadata": self._send("GET", _path(name, version)).json()}

    def metrics(self) -> EngineMetrics:
        """Raises UnsupportedByEngine."""
        raise UnsupportedByEngine(
            NAME,
            "exports its metrics from each node, not from one endpoint",
            "Configure Prometheus to scrape every node.",
        )

    def why_unreachable(self) -> str | None:
        """See `Engine`. Its proxies are its own concern."""
        return None

    def signature_policy(self) -> SignaturePolicy:
        """See `Engine`. It takes no archives, so it demands no signature."""
        return SignaturePolicy()

    def close(self) -> None:
        """See `Engine`."""
        self._on_close.close()

    def _served(self) -> tuple[dict[str, Any], dict[str, Route]]:
        """The configuration of each version's application, and the router's table."""
        details = self._cluster.details()["applications"]
        table = self._table(details)
        names = [app for route in table.values() for app in route["versions"].values()]
        return {app: details[app]["deployed_app_config"] for app in names}, table

    def _table(self, details: Mapping[str, Any]) -> dict[str, Route]:
        if ROUTER not in details:
            return {}
        [deployment] = details[ROUTER]["deployed_app_config"]["deployments"]
        models: dict[str, Route] = dict(deployment["user_config"]["models"])
        return models

    def _apply(self, applications: Mapping[str, Any], table: Mapping[str, Route]) -> None:
        config = serve_config((), host=self._host, port=self._port)
        routers = router(table, self._cluster.size())
        self._cluster.apply(config | {"applications": [*applications.values(), routers]})

    def _application(self, name: str, version: str, table: Mapping[str, Route]) -> str:
        versions = table[name]["versions"] if name in table else {}
        if not versions:
            raise self._no_model(name, table)
        if version not in versions:
            raise VersionNotFound(
                f"{name} has no version {version}. Registered versions: {', '.join(versions)}."
            )
        return versions[version]

    def _no_model(self, name: str, table: Mapping[str, Route]) -> ModelNotFound:
        registered = ", ".join(sorted(key for key in table if table[key]["versions"])) or "none"
        return ModelNotFound(f"Model {name!r} is not registered. Registered models: {registered}.")

    def _send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        address = self._cluster.address()
        try:
            answer = httpx.request(
                method,
                f"{address}{path}",
                content=body,
                headers=dict(headers or {}),
                timeout=TIMEOUT_S,
                trust_env=False,
            )
        except httpx.TransportError as error:
            raise Unreachable(
                f"Ray Serve at {address} does not answer ({error}). Check that the cluster is "
                "running."
            ) from error
        if answer.is_error:
            _fail(answer)
        return answer


def _path(name: str, version: str | None) -> str:
    path = f"/v2/models/{quote(name)}"
    return path if version is None else f"{path}/versions/{quote(version)}"


def _fail(answer: httpx.Response) -> NoReturn:
    try:
        error = answer.json()
        refusal = Refused(error["message"], code=error["code"], type=error["type"])
    except (ValueError, KeyError, TypeError):
        refusal = Refused(answer.text, code=answer.status_code, type=answer.reason_phrase)
    kinds: dict[str, type[Refused]] = {
        "ModelNotFoundException": ModelNotFound,
        "ModelVersionNotFoundException": VersionNotFound,
    }
    raise refusal.retold(kinds.get(refusal.type, PredictionFailed), str(refusal))


def _model_version(
    name: str, version: str, details: Mapping[str, Any], default: str
) -> ModelVersion:
    config = details["deployed_app_config"]
    [settings] = config["deployments"]
    [deployment] = details["deployments"].values()
    replicas = deployment["replicas"]
    states = tuple(
        "READY" if replica["state"] == "RUNNING" else str(replica["state"]) for replica in replicas
    )
    return ModelVersion(
        name=name,
        version=version,
        default=version == default,
        mar=config["args"]["artifact"],
        batch_size=config["args"]["batch_size"],
        max_batch_delay_ms=config["args"]["max_batch_delay_ms"],
        workers=settings["autoscaling_config"]["min_replicas"],
        workers_ready=states.count("READY"),
        worker_pids=tuple(replica["pid"] or 0 for replica in replicas),
        worker_states=states,
        worker_ids=tuple(str(replica["replica_id"]) for replica in replicas),
        memory_bytes=0,
        device="gpu" if settings["ray_actor_options"].get("num_gpus") else "cpu",
        requests_waiting=None,
        queue_limit=MAX_QUEUED,
        response_timeout_s=int(TIMEOUT_S),
        startup_timeout_s=0,
    )
