"""A Ray cluster, brought to serving what a config says: checked first, then in steps.

A version that is new is up and warm before a router hears of it, and one that goes is asked for
nothing any more when it ends: so no request is lost on the way.
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
LOOK_AGAIN_S = 0.3

Config = Mapping[str, Any]
Say = Callable[[str], object]


@contextmanager
def cluster(address: str | None) -> Iterator["Cluster"]:
    """The cluster at `address`, or, if there is none, one on this machine that ends with the block.

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
            " If it asks for a token, set RAY_AUTH_MODE and RAY_AUTH_TOKEN as it has them."
            if isinstance(error, ConnectionError)
            else ""
        )
        said = " ".join(str(error).split()).rstrip(".")
        raise ClusterUnusable(f"{where} cannot be used: {said}.{token}") from error
    try:
        yield Cluster(client)
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    # Ray itself would go on trying: for a minute where nothing listens, for minutes where something
    # else does, such as the same cluster's dashboard.
    place = address.removeprefix("ray://")
    host, _, port = place.rpartition(":")
    try:
        if not port.isdigit():
            raise ValueError("it has no port")
        socket.create_connection((host, int(port)), ANSWERS_WITHIN_S).close()
        if os.environ.get("RAY_USE_TLS") != "1":
            _check_speaks_grpc(place)
    except (OSError, ValueError) as error:
        raise ClusterUnusable(
            f"There is no Ray cluster at {address} ({error}). Give HOST:PORT, as `ray start "
            "--head` prints it, or no --address for a cluster on this machine."
        ) from error


def _check_speaks_grpc(place: str) -> None:
    """Raises ValueError if it does not."""
    with grpc.insecure_channel(place, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(ANSWERS_WITHIN_S)
        except grpc.FutureTimeoutError as error:
            raise ValueError("what listens there does not speak gRPC") from error


class Cluster:
    """A cluster that this process is connected to."""

    def __init__(self, client: ServeSubmissionClient) -> None:
        self._client = client

    def details(self) -> dict[str, Any]:
        """What runs there, as Ray's REST API tells it."""
        return self._client.get_serve_details()

    def size(self) -> int:
        """Its nodes."""
        return len(_alive())

    def address(self) -> str:
        """Where its routers answer."""
        options = self.details()["http_options"]
        return f"http://{options['host']}:{options['port']}"

    def check(self, versions: Sequence[Version]) -> list[str]:
        """Asks each node that could take a replica whether it can serve it.

        Returns what there is to say of other programs than the chosen ones. Raises DoesNotFit.
        """
        nodes = _alive()
        asked = {}
        for version in versions:
            able = [node for node, each in nodes.items() if _has_room(each["Resources"], version)]
            if not able:
                raise DoesNotFit(
                    f"No node has {version.threads} cores and {version.gpus} GPUs, which a replica "
                    f"of {version.name} {version.version} takes. --cores takes fewer."
                )
            for node in able:
                asked[version.application, node] = _examine(node, version)
        found = _answers(list(asked.values()))
        remarks = []
        for (application, node), fit in zip(asked, found, strict=True):
            where = nodes[node]["NodeManagerAddress"]
            if fit.problem:
                raise DoesNotFit(f"Node {where} cannot serve {application}: {fit.problem}")
            if fit.remark:
                remarks.append(f"node {where} {fit.remark}")
        return remarks

    def apply(self, wanted: Config, say: Say = lambda doing: None) -> None:
        """Brings Serve to `wanted`, and leaves applications alone that are not of this project.

        Raises OtherArtifact if a version that runs would become another artifact; DeployFailed if
        something does not come up, after Serve was brought back to what it ran.
        """
        details = self.details()
        before = {
            name: each["deployed_app_config"]
            for name, each in details["applications"].items()
            if each["deployed_app_config"]
        }
        new = {each["name"]: each for each in wanted["applications"]}
        _check_unchanged(before, new)
        base = {key: value for key, value in wanted.items() if key != "applications"}
        if before:  # Serve listens where it did, whatever it is told
            base |= {key: details[key] for key in ("proxy_location", "http_options")}
        others = {name: each for name, each in before.items() if not _is_ours(each)}
        models = {name: each for name, each in new.items() if name != ROUTER}
        steps = {
            "Starting what is new …": before | models,
            "Telling the routers …": before | new,
            "Ending what is served no more …": others | new,
        }
        try:
            for doing, applications in steps.items():
                say(doing)
                self._put(base, applications)
        except BaseException:
            self._client.deploy_applications({**base, "applications": [*before.values()]})
            raise

    def _put(self, base: Config, applications: Mapping[str, Config]) -> None:
        """Returns when all of them are up."""
        self._client.deploy_applications({**base, "applications": [*applications.values()]})
        deadline = time.monotonic() + UP_WITHIN_S
        while True:
            there = self.details()["applications"]
            states = {name: there[name] for name in applications if name in there}
            if failed := {n: s for n, s in states.items() if s["status"] == "DEPLOY_FAILED"}:
                raise DeployFailed(f"Serve could not start {_reasons(failed)}")
            waiting = {n: s for n, s in states.items() if s["status"] != "RUNNING"}
            gone = there.keys() - applications.keys()
            ending = [name for name in gone if there[name]["status"] == "DELETING"]
            if len(states) == len(applications) and not waiting and not ending:
                return
            if time.monotonic() > deadline:
                raise DeployFailed(
                    f"After {UP_WITHIN_S:.0f} s these are not up: {_reasons(waiting)}"
                )
            time.sleep(LOOK_AGAIN_S)


def _alive() -> dict[str, dict[str, Any]]:
    """By its id, what Ray says of each node."""
    return {each["NodeID"]: each for each in ray.nodes() if each["Alive"]}


def _has_room(resources: Mapping[str, float], version: Version) -> bool:
    return resources.get("CPU", 0) >= version.threads and resources.get("GPU", 0) >= version.gpus


def _examine(node: str, version: Version) -> ray.ObjectRef:
    placed = ray.remote(num_cpus=0)(fit_of).options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
    )
    return placed.remote(str(version.artifact.path.absolute()), version.artifact.digest)


def _answers(asked: list[ray.ObjectRef]) -> list[Fit]:
    try:
        return ray.get(asked, timeout=EXAMINED_WITHIN_S)
    except RayError as error:
        raise DoesNotFit(
            "A node of the cluster could not look at the artifacts; is Shipway installed there, in "
            f"the environment that Ray runs in? {str(error).strip().splitlines()[-1]}"
        ) from error


def _is_ours(application: Config) -> bool:
    return application["import_path"].startswith(f"{CODE}:")


def _check_unchanged(before: Mapping[str, Config], new: Mapping[str, Config]) -> None:
    for name in (before.keys() & new.keys()) - {ROUTER}:
        running, wanted = (each[name]["args"]["digest"] for each in (before, new))
        if running != wanted:
            raise OtherArtifact(
                f"{name} runs already, from an artifact with the digest {running[:12]}…; this one "
                f"has {wanted[:12]}…. A version never changes: export it as another version."
            )


def _reasons(states: Mapping[str, Any]) -> str:
    """The last line of each error, for Serve gives the whole traceback."""
    found = []
    for name, state in states.items():
        said = [state["message"], *(each["message"] for each in state["deployments"].values())]
        lines = [line for each in said for line in each.strip().splitlines()]
        found.append(f"{name}: {lines[-1] if lines else state['status']}")
    return "; ".join(found)
