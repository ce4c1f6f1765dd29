"""The container of deploy/kubernetes, run as its manifest says, but for the container itself.

Its command, its arguments, its mounts and its probes are the manifest's. The root filesystem is
read-only, in a mount namespace, and the user is not root; there is no image and no cluster.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
import yaml

from shipway.archive.inspect import inspect_mar
from shipway.archive.pack import pack
from shipway.deploy.kubernetes import SERVER_MIB, WORKER_MIB
from shipway.engines.torchserve import protos
from shipway.engines.torchserve.config import ServerConfig, read_config
from shipway.engines.torchserve.temporary import with_free_ports
from tests.conftest import REPOSITORY
from tests.servers import SHIPWAY, until

KUBERNETES = REPOSITORY / "deploy/kubernetes"
POD = yaml.safe_load((KUBERNETES / "base/deployment.yaml").read_text())["spec"]["template"]["spec"]
[CONTAINER] = POD["containers"]
ROW = [0.3, -1.2, 0.8, 0.1, 2.0]

READ_ONLY = """
set -e
mount --make-rprivate /
for place in "$@"; do mount --bind "$place" "$place"; done
mount -t tmpfs -o size=64m,mode=1777 tmpfs /dev/shm
mount -o remount,bind,ro /
if touch / 2> /dev/null || touch "$HERE/probe" 2> /dev/null; then echo "it is writable"; exit 9; fi
exec unshare --user --map-user="$USER_ID" --map-group="$GROUP_ID" sh -c "exec $COMMAND"
"""
"""Binds what the pod may write to over itself, which then stays writable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    process: subprocess.Popen[bytes]
    config: ServerConfig

    def probe(self, name: str) -> int:
        """The status that the kubelet would get, 0 where nobody answers."""
        asked = CONTAINER[name]["httpGet"]
        try:
            url = f"http://127.0.0.1:{self.port(asked['port'])}{asked['path']}"
            return httpx.get(url, timeout=5, trust_env=False).status_code
        except httpx.TransportError:
            return 0

    def port(self, name: str) -> int:
        """Where the container port of that name is here."""
        assert self.config.exporter is not None
        ours = {
            8080: self.config.inference.port,
            7070: self.config.grpc_inference.port,
            9404: self.config.exporter.port,
        }
        return {each["name"]: ours[each["containerPort"]] for each in CONTAINER["ports"]}[name]

    def ask(self) -> httpx.Response:
        return httpx.post(
            f"http://127.0.0.1:{self.port('http')}/predictions/tiny-table",
            json=ROW,
            trust_env=False,
        )

    def call(self) -> bytes:
        """The same over gRPC, on a connection of its own; raises grpc.RpcError."""
        stubs = protos.load()
        body = json.dumps(ROW).encode()
        request = stubs.inference_pb2.PredictionsRequest(
            model_name="tiny-table", input={"body": body}
        )
        address = f"127.0.0.1:{self.port('grpc')}"
        with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            service = stubs.inference_pb2_grpc.InferenceAPIsServiceStub(channel)
            return service.Predictions(request, timeout=30).prediction

    def family(self) -> list[psutil.Process]:
        """The server's processes, those of the front included."""
        server = psutil.Process(self.process.pid)
        return [server, *server.children(recursive=True)]


@pytest.fixture(scope="module")
def pod(tiny_table) -> Iterator[Pod]:
    if not shutil.which("unshare"):
        pytest.skip("a mount namespace needs unshare, of util-linux")
    with tempfile.TemporaryDirectory(prefix="pod-") as temporary:
        here = Path(temporary)
        places = {
            each["mountPath"]: here / each["name"]
            for each in CONTAINER["volumeMounts"]
            if each["name"] != "shm"
        }
        for place in places.values():
            place.mkdir()
        mar = pack(tiny_table, here / "model-store")
        wanted = {"name": "tiny-table", "version": "1.0", "sha256": inspect_mar(mar).digest}
        (here / "models/models.yaml").write_text(json.dumps({"models": [wanted]}))
        text = (KUBERNETES / "config/config.properties").read_text()
        config = here / "config/config.properties"
        config.write_text(with_free_ports(text))
        with run(here, places) as process:
            yield Pod(process=process, config=read_config(config))
            if process.poll() is None:
                process.kill()


def run(here: Path, places: dict[str, Path]) -> subprocess.Popen[bytes]:
    writable = [
        place
        for each in CONTAINER["volumeMounts"]
        if (place := places.get(each["mountPath"])) and not each.get("readOnly")
    ]
    assert CONTAINER["command"] == ["/shipway/.venv/bin/shipway", "serve"]
    arguments = [translated(each, places) for each in CONTAINER["args"]]
    environment = {each["name"]: translated(each["value"], places) for each in CONTAINER["env"]}
    return subprocess.Popen(
        [
            *("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",))),
            *("sh", "-c", READ_ONLY, "sh", *map(str, writable)),
        ],
        cwd=REPOSITORY,
        env=os.environ
        | environment
        | {
            "HERE": str(here),
            "TMPDIR": str(places["/tmp"]),
            "USER_ID": str(POD["securityContext"]["runAsUser"]),
            "GROUP_ID": str(POD["securityContext"]["runAsGroup"]),
            "COMMAND": " ".join([*SHIPWAY, "serve", *arguments]),
        },
    )


def translated(text: str, places: dict[str, Path]) -> str:
    """A path in the container as it is here."""
    for path, place in sorted(places.items(), reverse=True):
        if text.partition("=")[2].startswith(path) or text == path:
            return text.replace(path, str(place), 1)
    return text


def test_it_gets_warm_on_a_read_only_root_as_a_user_that_is_not_root(pod):
    startup = CONTAINER["startupProbe"]
    assert pod.probe("readinessProbe") != 200
    until(
        lambda: pod.process.poll() is not None or pod.probe("startupProbe") == 200,
        within_s=startup["periodSeconds"] * startup["failureThreshold"],
    )
    until(lambda: pod.probe("readinessProbe") == 200, within_s=60)
    assert pod.probe("livenessProbe") == 200
    assert pod.ask().status_code == 200, "without a token"


def test_requests_reach_the_worker_through_the_front_alone(pod):
    answer = pod.ask()
    assert "queue;dur=" in answer.headers["server-timing"], "TorchServe answered"
    assert json.loads(pod.call()) == answer.json()
    processes = [psutil.Process(each.pid) for each in pod.family()]
    [envoy] = [each for each in processes if Path(each.exe()).name == "envoy"]
    assert {each.uids().effective for each in processes} == {envoy.uids().effective}
    listening = {
        each.laddr.port for each in envoy.net_connections("tcp") if each.status == "LISTEN"
    }
    assert listening == {pod.port("http"), pod.port("grpc")}
    sockets = [each.laddr for each in envoy.net_connections("unix") if each.laddr]
    assert any(each.endswith("/front/admin.sock") for each in sockets)


def test_the_server_without_models_needs_no_more_memory_than_it_requests(pod):
    """Java, the exporter and the front, and one worker: what is shared counts once."""
    for _ in range(100):
        pod.ask()
    mebibytes = (
        sum(psutil.Process(each.pid).memory_full_info().pss for each in pod.family()) / 2**20
    )
    assert mebibytes < SERVER_MIB + WORKER_MIB, mebibytes
    print(f"{mebibytes:.0f} MiB of {SERVER_MIB + WORKER_MIB}")


def test_only_predictions_and_metrics_listen_beyond_the_pod(pod):
    family = pod.family()
    listening = {
        each.laddr.port: each.laddr.ip
        for process in family
        for each in psutil.Process(process.pid).net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    }
    loopback = ("127.0.0.1", "::ffff:127.0.0.1", "::1")
    anywhere = {port for port, address in listening.items() if address not in loopback}
    assert anywhere == {pod.port(each["name"]) for each in CONTAINER["ports"]}
    assert pod.config.management.port in listening.keys() - anywhere


def test_from_the_end_of_prestop_on_it_drains_and_ends_within_its_grace(pod):
    """As the kubelet does it: preStop while others still send, then SIGTERM.

    Whoever is then refused a connection asks another pod; what was accepted is answered.
    """
    started = time.monotonic()
    answers: list[int] = []
    called: list[bytes] = []
    stopping, over = threading.Event(), threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                answers.append(pod.ask().status_code)
            except httpx.ConnectError:
                assert stopping.is_set(), "refused while preStop was not over"
                return
            time.sleep(0.02)

    def call() -> None:
        while not over.is_set():
            try:
                called.append(pod.call())
            except grpc.RpcError as error:
                assert stopping.is_set() and error.code() == grpc.StatusCode.UNAVAILABLE, error
                assert "Connection refused" in error.details(), error
                return
            time.sleep(0.02)

    with ThreadPoolExecutor(5) as pool:
        asking = [pool.submit(each) for each in (ask, ask, ask, call, call)]
        subprocess.run(CONTAINER["lifecycle"]["preStop"]["exec"]["command"], check=True)
        stopping.set()
        pod.process.send_signal(signal.SIGTERM)
        time.sleep(5)  # balancers go on for a while
        over.set()
        for each in asking:
            each.result()
    assert pod.process.wait(POD["terminationGracePeriodSeconds"]) == 0
    assert time.monotonic() - started < POD["terminationGracePeriodSeconds"]
    assert set(answers) == {200} and len(answers) > 100, Counter(answers)
    assert len(set(called)) == 1 and len(called) > 50
