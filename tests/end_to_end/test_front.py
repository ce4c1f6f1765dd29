"""The front of a real server: requests reach workers directly, and releases follow at once."""

import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from shipway.archive.inspect import inspect_mar
from shipway.archive.pack import pack
from shipway.artifact.bundle import Artifact
from shipway.engines.protocol import ModelVersion
from shipway.engines.torchserve import template
from shipway.engines.torchserve.engine import TorchServeEngine
from shipway.engines.torchserve.tokens import bearer
from shipway.front.exchange import FOLDER, Exchange
from shipway.front.registered import MOST_DEATHS
from shipway.processes import runs
from shipway.releases.readiness import ask_why_not_ready
from shipway.releases.rollout import changing
from shipway.releases.settings import version_of
from tests.conftest import retold
from tests.servers import RunningServer, running_server, until

MODEL = "tiny-table"
ROW = [0.3, -1.2, 0.8, 0.1, 2.0]
PATH = f"/predictions/{MODEL}"
PAGE = "https://a-page.example"


@pytest.fixture(scope="module")
def server(
    tiny_table: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """1.0 and 2.0 are registered; 1.0 is the default."""
    folder = tmp_path_factory.mktemp("front")
    (folder / "model_store").mkdir()
    pack(tiny_table, folder / "model_store")
    pack(retold(tiny_table, folder / "second", version="2.0"), folder / "model_store")
    with running_server(folder, front="on", cors_allowed_origin=PAGE) as running:
        for version in ("1.0", "2.0"):
            register(running, version)
        promote(running, "1.0")
        yield running


def register(server: RunningServer, version: str) -> None:
    info = inspect_mar(server.model_store / f"{MODEL}-{version}.mar")
    with changing(server.state, "a test") as rollout:
        rollout.register(info.name, info.version, version_of(info, server.model_store))


def promote(server: RunningServer, version: str) -> None:
    with changing(server.state, "a test") as rollout:
        rollout.promote(MODEL, version, inspect=inspect_mar)


def front_of(server: RunningServer) -> Exchange:
    return Exchange(Path(server.record.launch) / FOLDER)


@contextmanager
def client_of(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=server.record.addresses.inference,
        headers=bearer(server.tokens.get("inference")),
        trust_env=False,
        timeout=30,
    ) as client:
        yield client


@pytest.fixture
def client(server):
    with client_of(server) as opened:
        yield opened


def manage(server: RunningServer, method: str, path: str) -> httpx.Response:
    """As curl would: nothing of this project sees it."""
    return httpx.request(
        method,
        server.record.addresses.management + path,
        headers=bearer(server.tokens.get("management")),
        trust_env=False,
    )


def default_of(server: RunningServer) -> ModelVersion:
    return next(one for one in server.management.describe(MODEL) if one.default)


def worker_of(server: RunningServer, version: str) -> int:
    """The process of a version's only worker."""
    [found] = [one for one in server.management.describe(MODEL) if one.version == version]
    return found.worker_pids[0]


def is_direct(answer: httpx.Response) -> bool:
    """Whether it did not pass through TorchServe, which forbids caches to keep its answers."""
    return "pragma" not in answer.headers


def envoy_of(server: RunningServer) -> psutil.Process:
    [found] = [each for each in server.processes() if each.name() == "envoy"]
    return found


class Load:
    """Clients that send requests until the context ends."""

    def __init__(self, server: RunningServer, path: str = PATH, clients: int = 4) -> None:
        self._server, self._path, self.clients = server, path, clients
        self._ended = threading.Event()
        self.answers: list[tuple[int, str]] = []

    def _ask(self) -> None:
        with client_of(self._server) as client:
            while not self._ended.is_set():
                try:
                    answer = client.post(self._path, json=ROW)
                except httpx.TransportError as error:
                    self.answers.append((0, repr(error)))
                    continue
                version = answer.headers.get("shipway-version", answer.text)
                self.answers.append((answer.status_code, version))

    def __enter__(self) -> "Load":
        self._crowd = ThreadPoolExecutor(self.clients)
        self._asking = [self._crowd.submit(self._ask) for _ in range(self.clients)]
        self.more(50)
        return self

    def more(self, count: int) -> None:
        """Waits for so many further answers."""
        before = len(self.answers)
        until(lambda: len(self.answers) >= before + count)

    @property
    def failed(self) -> list[tuple[int, str]]:
        return [each for each in self.answers if each[0] != 200]

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        for each in self._asking:
            each.result(30)
        self._crowd.shutdown()


def test_a_request_reaches_the_worker_without_torchserve(client):
    answer = client.post(PATH, json=ROW)
    assert answer.is_success and is_direct(answer)
    assert answer.headers["shipway-version"] == "1.0"
    assert client.post(f"{PATH}/2.0", json=ROW).headers["shipway-version"] == "2.0"
    assert not is_direct(client.get("/ping"))


def test_the_answer_is_the_one_that_torchserve_passes_on(server, client):
    # TorchServe's own gRPC does not pass through the front.
    direct = client.post(PATH, json=ROW).json()
    through = server.grpc.predict(MODEL, json.dumps(ROW).encode())
    assert direct == through


def test_kserves_first_protocol_is_answered(client):
    native = client.post(PATH, json=ROW).json()
    answer = client.post(f"/v1/models/{MODEL}:predict", json={"instances": [ROW, ROW]})
    assert answer.json() == {"predictions": [native, native]}
    assert client.get(f"/v1/models/{MODEL}").json() == {"name": MODEL, "ready": True}
    refused = client.post(f"/v1/models/{MODEL}:predict", json={"rows": []})
    assert refused.status_code == 400 and "instances" in refused.json()["error"]


def test_a_compressed_body_is_answered(client):
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    answer = client.post(PATH, content=gzip.compress(json.dumps(ROW).encode()), headers=headers)
    assert answer.json() == client.post(PATH, json=ROW).json()


def test_a_promotion_is_followed_before_it_returns_and_loses_nothing(server, client):
    with Load(server) as load:
        promote(server, "2.0")
        assert client.post(PATH, json=ROW).headers["shipway-version"] == "2.0"
        load.more(50)
        promote(server, "1.0")
        assert client.post(PATH, json=ROW).headers["shipway-version"] == "1.0"
        load.more(50)
    assert load.failed == []
    assert {version for _, version in load.answers} == {"1.0", "2.0"}


def test_a_default_that_curl_sets_is_followed_within_a_second(server, client):
    try:
        assert manage(server, "PUT", f"/models/{MODEL}/2.0/set-default").is_success
        start = time.monotonic()
        until(lambda: client.post(PATH, json=ROW).headers["shipway-version"] == "2.0", 1.0)
        assert time.monotonic() - start < 1.0
    finally:
        manage(server, "PUT", f"/models/{MODEL}/1.0/set-default")
        until(lambda: client.post(PATH, json=ROW).headers["shipway-version"] == "1.0")


def test_a_version_comes_and_goes_under_load(server, tiny_table, tmp_path):
    pack(retold(tiny_table, tmp_path / "third", version="3.0"), server.model_store)
    with Load(server) as load:
        register(server, "3.0")
        with client_of(server) as client:
            assert client.post(f"{PATH}/3.0", json=ROW).headers["shipway-version"] == "3.0"
        promote(server, "3.0")
        load.more(50)
        promote(server, "1.0")
        with closing(TorchServeEngine(server.state)) as engine:
            assert engine.unregister(MODEL, "3.0", drain_within_s=10)
        load.more(50)
    assert load.failed == []
    assert (MODEL, "3.0") not in front_of(server).read_served().versions
    with client_of(server) as client:
        assert client.post(f"{PATH}/3.0", json=ROW).status_code == 404


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: not runs(pid))


def test_a_killed_worker_loses_what_it_was_answering_and_the_rest_waits(server):
    # The only worker of its version.
    [before] = default_of(server).worker_pids
    with Load(server) as load:
        began = time.monotonic()
        kill(before)
        load.more(50)
        took = time.monotonic() - began
    # The system closes a dead process's connections one after the other: what Envoy writes to one
    # of them in that moment is lost, too.
    assert len(load.failed) <= 2 * load.clients, load.failed
    assert {status for status, _ in load.failed} <= {502, 503}
    [after] = default_of(server).worker_pids
    assert after != before and took < 5
    assert psutil.Process(after).memory_full_info().uss < 100e6
    assert "was ended by signal 9" in server.state.worker_log.read_text()


def test_without_the_template_workers_start_by_themselves(server, client):
    [found] = [each for each in server.processes() if is_template(each)]
    found.suspend()
    try:
        [before] = default_of(server).worker_pids
        kill(before)
        until(lambda: client.post(PATH, json=ROW).is_success, 60)
        assert default_of(server).worker_pids[0] not in (before, 0)
    finally:
        with suppress(psutil.NoSuchProcess):  # one that hangs is killed
            found.kill()
    until(lambda: any(is_template(each) for each in server.processes()), 30)


def is_template(process: psutil.Process) -> bool:
    """The template itself; its forks share its command line."""
    parent = process.parent()
    return (
        process.cmdline()[2:3] == [template.__file__]
        and parent is not None
        and parent.cmdline()[2:3] != [template.__file__]
    )


def test_a_worker_that_is_frozen_is_ended_and_replaced(server, client):
    [version] = [one for one in server.management.describe(MODEL) if one.version == "2.0"]
    [pid] = version.worker_pids
    os.kill(pid, signal.SIGSTOP)
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", 30)
    until(lambda: client.post(f"{PATH}/2.0", json=ROW).status_code == 200, 60)
    assert "makes no progress" in server.state.front_log.read_text()


def test_envoy_is_started_again(server, client):
    before = envoy_of(server)
    before.kill()
    before.wait()
    until(lambda: answers(client))
    assert envoy_of(server).pid != before.pid


def test_the_process_that_keeps_the_front_is_replaced(server, client):
    envoy = envoy_of(server)
    envoy.parent().kill()

    def answers() -> bool:
        try:
            return client.post(PATH, json=ROW).is_success and envoy_of(server).pid != envoy.pid
        except (httpx.TransportError, ValueError):
            return False

    until(answers)
    promote(server, "2.0")
    assert client.post(PATH, json=ROW).headers["shipway-version"] == "2.0"
    promote(server, "1.0")


def test_a_renewed_token_is_followed_and_the_old_one_counts_for_a_while(server):
    old = server.tokens.get("inference")
    assert old is not None
    server.tokens.renew("inference", refused=old)
    new = server.tokens.get("inference")
    assert new != old
    address = server.record.addresses.inference
    for token in (new, old):

        def answers(path: str, token: str = token) -> bool:
            headers = bearer(token)
            return httpx.get(address + path, headers=headers, trust_env=False).is_success

        until(lambda answers=answers: answers(f"/v2/models/{MODEL}"), 2)
        until(lambda answers=answers: answers("/ping"), 2)
    assert httpx.post(address + PATH, json=ROW, trust_env=False).status_code == 401


def test_a_server_that_stops_leaves_nothing_of_its_front(tiny_table, tmp_path):
    (tmp_path / "model_store").mkdir()
    pack(tiny_table, tmp_path / "model_store")
    with running_server(tmp_path, front="on") as running:
        register(running, "1.0")
        promote(running, "1.0")
        with Load(running) as load:
            load.more(50)
        assert load.failed == []
        folder = Path(running.record.launch)
        assert (folder / FOLDER).stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_a_foreign_archive_is_served_through_torchserve(server, client, echo_mars):
    shutil.copy(echo_mars["1.0"], server.model_store)
    server.management.register(
        echo_mars["1.0"].name,
        name="echo",
        version="1.0",
        batch_size=1,
        max_batch_delay_ms=0,
        workers=1,
    )
    try:
        answer = client.post("/predictions/echo", content=b"abc")
        assert answer.is_success and not is_direct(answer)
    finally:
        server.management.unregister("echo", "1.0")


def test_curl_is_answered_in_every_version_of_http(server, tmp_path):
    (tmp_path / "row.json").write_text(json.dumps(ROW))
    token = server.tokens.get("inference")
    for version in ("--http1.0", "--http1.1", "--http2-prior-knowledge"):
        done = subprocess.run(
            [
                *("curl", "-sS", version, "--fail-with-body"),
                *("-H", f"Authorization: Bearer {token}"),
                *("-H", "Content-Type: application/json", "--data-binary", "@row.json"),
                server.record.addresses.inference + PATH,
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (version, done.stdout, done.stderr)


@pytest.mark.parametrize("path", [PATH, f"{PATH}/2.0", f"/v2/models/{MODEL}/infer", "/ping"])
def test_a_page_of_the_allowed_site_may_ask(server, client, path):
    wanted = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    address = server.record.addresses.inference + path
    preflight = httpx.options(address, headers={"Origin": PAGE} | wanted, trust_env=False)
    assert preflight.status_code == 200  # without a token
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    answer = client.request(
        "GET" if path == "/ping" else "POST", path, json=ROW, headers={"Origin": PAGE}
    )
    assert answer.headers.get_list("access-control-allow-origin") == [PAGE]
    assert "shipway-version" in answer.headers["access-control-expose-headers"]
    others = httpx.options(
        address, headers={"Origin": "https://other.example"} | wanted, trust_env=False
    )
    assert others.status_code == 401 and "access-control-allow-origin" not in others.headers
    refused = httpx.post(address, json=ROW, headers={"Origin": PAGE}, trust_env=False)
    assert refused.status_code == 401  # and the page can read why
    assert refused.headers["access-control-allow-origin"] == PAGE


def test_an_envoy_that_cannot_listen_is_noticed_and_told(server, client):
    address = server.record.addresses.inference
    port = int(address.rpartition(":")[2])
    envoy = envoy_of(server)
    controller = envoy.parent()
    assert controller is not None
    controller.suspend()
    envoy.kill()
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        until(lambda: can_bind(thief, port))
        thief.listen()
        controller.resume()
        until(lambda: ask_why_not_ready(server.state) != [])
        assert "front.log" in ask_why_not_ready(server.state)[0]
        until(lambda: "takes no requests" in server.state.front_log.read_text(), 30)
    until(lambda: answers(client), 30)
    until(lambda: ask_why_not_ready(server.state) == [])


def can_bind(opened: socket.socket, port: int) -> bool:
    try:
        opened.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def answers(client: httpx.Client) -> bool:
    try:
        return client.post(PATH, json=ROW).is_success
    except httpx.TransportError:
        return False


def test_a_version_whose_workers_die_often_is_out_of_service_for_a_while(server, client):
    # The last test here: the version is out of service for the rest of a minute. Workers that the
    # tests before have killed count, too.
    path = f"{PATH}/2.0"

    def is_refused() -> bool:
        return "out of service" in client.post(path, json=ROW).text

    for _ in range(MOST_DEATHS + 1):
        until(lambda: is_refused() or client.post(path, json=ROW).is_success)
        if is_refused():
            break
        until(lambda: runs(worker_of(server, "2.0")))  # TorchServe reads the id of a new one
        kill(worker_of(server, "2.0"))
    until(is_refused)
    answer = client.post(f"{PATH}/2.0", json=ROW)
    assert answer.status_code == 503 and "retry-after" in answer.headers
    until(lambda: front_of(server).read_served().failing == {(MODEL, "2.0")})
    assert f"{MODEL} 2.0 is out of service" in server.state.front_log.read_text()
    assert client.post(f"{PATH}/1.0", json=ROW).is_success
    assert "out of service" not in client.post(PATH, json=ROW).text
