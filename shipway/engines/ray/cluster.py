"""Brings a Ray cluster to serve a configuration: checks it first, then applies it in steps.

New versions are warm before the routers know of them, and removed versions end after the routers
have forgotten them. So no request is lost.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import ray
from ray.dashboard.modules.serve.sdk import ServeSubmissionClient
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from shipway.engines.ray.config import CODE, ROUTER, Version
from shipway.engines.ray.errors import ClusterUnusable, DeployFailed, DoesNotFit, OtherArtifact
from shipway.engines.ray.nodes import Fit, fit_of

ANSWERS_WITHIN_S = 5.0
EXAMINED_WITHIN_S = 60.0
UP_WITHIN_S = 300.0
POLL_S = 0.3

Config = Mapping[str, Any]
Say = Callable[[str], object]


@contextmanager
def cluster(address: str | None) -> Iterator["Cluster"]:
    """Connects to the cluster at `address`, or starts one on this machine until the block ends.

    Raises ClusterUnusable.
    """
    if address:
        _check_reachable(address)
    else:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        context = ray.init(address or "local", log_to_driver=False, logging_level="ERROR")
        client = ServeSubmissionClient(f"http://{context.dashboard_url}")
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        ray.shutdown()
        where = f"The Ray cluster at {address}" if address else "A Ray cluster on this machine"
        token = (
            " If the cluster needs a token, set RAY_AUTH_MODE and RAY_AUTH_TOKEN as it does."
            if isinstance(error, ConnectionError)
            else ""
        )
        reason = " ".join(str(error).split()).rstrip(".")
        raise ClusterUnusable(f"{where} cannot be used: {reason}.{token}") from error
    try:
        yield Cluster(client)
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    # Ray itself retries for a minute if nothing listens there, and for minutes if something else
    # does, such as the cluster's dashboard.
    target = address.removeprefix("ray://")
    host, _, port = target.rpartition(":")
    try:
        if not port.isdigit():
            raise ValueError("it has no port")
        socket.create_connection((host, int(port)), ANSWERS_WITHIN_S).close()
        if os.environ.get("RAY_USE_TLS") != "1":
            _check_speaks_grpc(target)
    except (OSError, ValueError) as error:
        raise ClusterUnusable(
            f"There is no Ray cluster at {address} ({error}). Write HOST:PORT as `ray start "
            "--head` prints it, or omit --address for a cluster on this machine."
        ) from error


def _check_speaks_grpc(target: str) -> None:
    """Raises ValueError if the server at HOST:PORT does not speak gRPC."""
    with grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(ANSWERS_WITHIN_S)
        except grpc.FutureTimeoutError as error:
            raise ValueError("the server there does not speak gRPC") from error


class Cluster:
    """A cluster that this process is connected to."""

    def __init__(self, client: ServeSubmissionClient) -> None:
        self._client = client

    def details(self) -> dict[str, Any]:
        """What Serve runs, in the form of Ray's REST API."""
        return self._client.get_serve_details()

    def size(self) -> int:
        """The number of nodes."""
        return len(_alive())

    def address(self) -> str:
        """The URL of its routers, http://HOST:PORT."""
        options = self.details()["http_options"]
        return f"http://{options['host']}:{options['port']}"

    def check(self, versions: Sequence[Version]) -> list[str]:
        """Checks on each node with enough resources for a replica that it can serve the version.

        Returns a remark for each node that would not run the chosen program. Raises DoesNotFit.
        """
        nodes = _alive()
        examinations = {}
        for version in versions:
            eligible = [
                node
                for node, status in nodes.items()
                if _has_resources(status["Resources"], version)
            ]
            if not eligible:
                raise DoesNotFit(
                    f"No node has {version.threads} cores and {version.gpus} GPUs, which a replica "
                    f"of {version.name} {version.version} needs. Set fewer with --cores."
                )
            for node in eligible:
                examinations[version.application, node] = _examine(node, version)
        fits = _results(list(examinations.values()))
        remarks = []
        for (application, node), fit in zip(examinations, fits, strict=True):
            where = nodes[node]["NodeManagerAddress"]
            if fit.problem:
                raise DoesNotFit(f"Node {where} cannot serve {application}: {fit.problem}")
            if fit.remark:
                remarks.append(f"node {where}: {fit.remark}")
        return remarks

    def apply(self, config: Config, say: Say = lambda doing: None) -> None:
        """Brings Serve to `config`. Applications of other projects do not change.

        Raises OtherArtifact if a running version would become another artifact. Raises DeployFailed
        if an application does not start, after restoring what Serve ran before.
        """
        details = self.details()
        before = {
            name: status["deployed_app_config"]
            for name, status in details["applications"].items()
            if status["deployed_app_config"]
        }
        new = {application["name"]: application for application in config["applications"]}
        _check_unchanged(before, new)
        base = {key: value for key, value in config.items() if key != "applications"}
        if before:  # a running Serve cannot change its address
            base |= {key: details[key] for key in ("proxy_location", "http_options")}
        others = {name: app for name, app in before.items() if not _is_ours(app)}
        models = {name: app for name, app in new.items() if name != ROUTER}
        steps = {
            "Starting new versions …": before | models,
            "Updating the routers …": before | new,
            "Ending removed versions …": others | new,
        }
        try:
            for doing, applications in steps.items():
                say(doing)
                self._put(base, applications)
        except BaseException:
            self._client.deploy_applications({**base, "applications": [*before.values()]})
            raise

    def _put(self, base: Config, applications: Mapping[str, Config]) -> None:
        """Deploys the applications, and returns when all of them run."""
        self._client.deploy_applications({**base, "applications": [*applications.values()]})
        deadline = time.monotonic() + UP_WITHIN_S
        while True:
            deployed = self.details()["applications"]
            states = {name: deployed[name] for name in applications if name in deployed}
            if failed := {n: s for n, s in states.items() if s["status"] == "DEPLOY_FAILED"}:
                raise DeployFailed(f"Serve could not start {_reasons(failed)}")
            waiting = {n: s for n, s in states.items() if s["status"] != "RUNNING"}
            removed = deployed.keys() - applications.keys()
            ending = [name for name in removed if deployed[name]["status"] == "DELETING"]
            if len(states) == len(applications) and not waiting and not ending:
                return
            if time.monotonic() > deadline:
                raise DeployFailed(
                    f"Serve did not start all applications within {UP_WITHIN_S:.0f} s: "
                    f"{_reasons(waiting)}"
                )
            time.sleep(POLL_S)


def _alive() -> dict[str, dict[str, Any]]:
    """The status of each live node, by its id."""
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


def _has_resources(resources: Mapping[str, float], version: Version) -> bool:
    return resources.get("CPU", 0) >= version.threads and resources.get("GPU", 0) >= version.gpus


def _examine(node: str, version: Version) -> ray.ObjectRef:
    examine = ray.remote(num_cpus=0)(fit_of).options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
    )
    return examine.remote(str(version.artifact.path.absolute()), version.artifact.digest)


def _results(examinations: list[ray.ObjectRef]) -> list[Fit]:
    try:
        return ray.get(examinations, timeout=EXAMINED_WITHIN_S)
    except RayError as error:
        raise DoesNotFit(
            "A node of the cluster could not check the artifacts. Is Shipway installed there, in "
            f"the environment that Ray runs in? {str(error).strip().splitlines()[-1]}"
        ) from error


def _is_ours(application: Config) -> bool:
    return application["import_path"].startswith(f"{CODE}:")


def _check_unchanged(before: Mapping[str, Config], new: Mapping[str, Config]) -> None:
    for name in (before.keys() & new.keys()) - {ROUTER}:
        running, given = (apps[name]["args"]["digest"] for apps in (before, new))
        if running != given:
            raise OtherArtifact(
                f"{name} already runs from an artifact with the digest {running[:12]}…; this one "
                f"has {given[:12]}…. Versions are immutable. Export the model under another "
                "version."
            )


def _reasons(states: Mapping[str, Any]) -> str:
    """The last line of each error, because Serve reports whole tracebacks."""
    reasons = []
    for name, state in states.items():
        deployments = state["deployments"].values()
        messages = [state["message"], *(deployment["message"] for deployment in deployments)]
        lines = [line for message in messages for line in message.strip().splitlines()]
        reasons.append(f"{name}: {lines[-1] if lines else state['status']}")
    return "; ".join(reasons)
