"""A real Envoy with the files that are written for it, in front of workers on unix sockets."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from shipway.engines.ports import free_ports
from shipway.front.envoy import Admin, Files, find_envoy, start_envoy
from shipway.front.registered import Announced, Registered
from shipway.front.resources import FrontConfig, admin_socket
from shipway.serving.deadlines import FRONT_WITHIN, WITHIN
from shipway.serving.http1 import Answer, Connection, Held, HttpRequest
from shipway.serving.replies import Reply

ENVOY = find_envoy()
pytestmark = pytest.mark.skipif(ENVOY is None, reason="there is no Envoy for this platform")


class Named:
    """A worker that answers with its name and what it got."""

    def __init__(self, name: str) -> None:
        self.name = name

    def why_refused(self, head: HttpRequest) -> Reply | None:
        return None

    def handle(self, request: HttpRequest, answer: Answer) -> None:
        said = f"{self.name} {request.path} {request.headers.get('authorization')} "
        within = str(request.headers.get(FRONT_WITHIN))
        answer(Reply(said.encode() + request.body, headers={"within": within}))


class Workers:
    """Workers in an event loop of their own, and a TorchServe that is one of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._servers: dict[str, asyncio.Server] = {}

    def listen(self, name: str, port: int | None = None) -> str:
        """The socket of a new worker."""
        connections: set[Connection] = set()
        path = str(self._folder / f"{name.replace('/', '-')}.sock")

        def connection() -> Connection:
            return Connection(Named(name), connections, 2**24, Held(2**28))

        made = (
            self._loop.create_unix_server(connection, path)
            if port is None
            else self._loop.create_server(connection, "127.0.0.1", port)
        )
        self._servers[name] = asyncio.run_coroutine_threadsafe(made, self._loop).result(5)
        return path

    def end(self, name: str) -> None:
        self._loop.call_soon_threadsafe(self._servers.pop(name).close)

    def stop(self) -> None:
        for name in list(self._servers):
            self.end(name)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


class Running:
    """An Envoy, its workers, and what it is told."""

    def __init__(self, folder: Path) -> None:
        own = folder / "front"
        own.mkdir()
        inside, outside, inside_grpc, outside_grpc = free_ports(4)
        self.config = FrontConfig(
            folder=own,
            host="127.0.0.1",
            port=outside,
            grpc_host="127.0.0.1",
            grpc_port=outside_grpc,
            torchserve=f"127.0.0.1:{inside}",
            torchserve_grpc=f"127.0.0.1:{inside_grpc}",
        )
        self.workers = Workers(folder)
        self.workers.listen("torchserve", inside)
        self.files = Files(self.config)
        self.admin = Admin(admin_socket(own))
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{outside}", trust_env=False)

    def worker(self, name: str, version: str, pid: int = 1) -> Announced:
        socket = self.workers.listen(f"{name}/{version}/{pid}")
        return Announced(name=name, version=version, pid=pid, socket=socket, answer_within_s=60)

    @contextmanager
    def running(self, registered: Registered) -> Iterator["Running"]:
        assert ENVOY is not None
        log = self.config.folder / "envoy.log"
        process = start_envoy(ENVOY, self.files.start(registered), log, 1)
        try:
            until(self.admin.is_ready, log)
            yield self
        finally:
            process.terminate()
            process.wait()
            self.client.close()

    def said(self, path: str, **request: Any) -> str:
        """The worker that answers, and the path that it got."""
        answer = self.client.request("POST", path, **request)
        return " ".join(answer.text.split()[:2])


def until(holds: Callable[[], bool], log: Path | None = None) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, log.read_text() if log else "it did not happen"
        time.sleep(0.01)


@pytest.fixture
def envoy(tmp_path):
    made = Running(tmp_path)
    yield made
    made.workers.stop()


def test_each_version_gets_its_own_requests_and_torchserve_the_rest(envoy):
    one, two = envoy.worker("cats", "1.0"), envoy.worker("cats", "2.0")
    with envoy.running(Registered(workers=(one, two), defaults={"cats": "1.0", "old": "1"})):
        for path, worker in {
            "/predictions/cats": "cats/1.0/1",
            "/predictions/cats?top=3": "cats/1.0/1",
            "/predictions/cats/2.0": "cats/2.0/1",
            "/v2/models/cats/infer": "cats/1.0/1",
            "/v2/models/cats": "cats/1.0/1",
            "/v2/models/cats/versions/2.0/infer": "cats/2.0/1",
            "/v2/models/cats/versions/2.0/ready": "cats/2.0/1",
            "/v2/models/cats/versions/3.0/infer": "torchserve",
            "/v1/models/cats": "cats/1.0/1",
            "/v1/models/cats:predict": "cats/1.0/1",
            "/v1/models/dogs:predict": "torchserve",
            "/predictions/cats/3.0": "torchserve",
            "/predictions/catsanddogs": "torchserve",
            "/predictions/old": "torchserve",
            "/predictions/cats/../../ping": "torchserve",
            "/predictions/cats%2f2.0": "torchserve",
            "/ping": "torchserve",
            "/": "torchserve",
        }.items():
            assert envoy.said(path).split()[0] == worker, path


def test_a_token_is_needed_and_torchserve_gets_its_own(envoy):
    cats = envoy.worker("cats", "1.0")
    registered = Registered(
        workers=(cats,),
        defaults={"cats": "1.0"},
        with_tokens=True,
        token="new",
        tokens=("new", "old"),
    )
    with envoy.running(registered):
        for sent in ({}, {"authorization": "Bearer wrong"}, {"authorization": "new"}):
            answer = envoy.client.post("/predictions/cats", headers=sent)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["code"] == 401
            assert answer.json()["type"] == "InvalidKeyException"
        for token in ("new", "old"):
            headers = {"authorization": f"Bearer {token}"}
            assert envoy.client.post("/predictions/cats", headers=headers).is_success
            assert "Bearer new" in envoy.client.get("/ping", headers=headers).text


def test_without_any_token_nobody_is_let_in(envoy):
    cats = envoy.worker("cats", "1.0")
    registered = Registered(workers=(cats,), defaults={"cats": "1.0"}, with_tokens=True)
    with envoy.running(registered):
        for sent in ({}, {"authorization": "Bearer x"}, {"authorization": "Bearer"}):
            assert envoy.client.post("/predictions/cats", headers=sent).status_code == 401
    for path in envoy.config.folder.glob("*.json"):
        if path.name.startswith("rds"):
            assert path.stat().st_mode & 0o077 == 0, path


def test_a_withdrawn_version_gets_no_request_and_torchserve_none_for_it(envoy):
    one, two = envoy.worker("cats", "1.0"), envoy.worker("cats", "2.0")
    before = Registered(workers=(one, two), defaults={"cats": "1.0"})
    with envoy.running(before):
        envoy.files.update(replace(before, withdrawn=frozenset([("cats", "2.0")])))
        for path in ("/predictions/cats/2.0", "/v2/models/cats/versions/2.0/infer"):
            answer = envoy.client.post(path)
            assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
            assert "being unregistered" in answer.json()["message"]
        assert envoy.said("/predictions/cats").split()[0] == "cats/1.0/1"
        envoy.files.update(replace(before, withdrawn=frozenset([("cats", "1.0")])))
        assert envoy.client.post("/predictions/cats").status_code == 503
        assert envoy.said("/predictions/cats/2.0").split()[0] == "cats/2.0/1"


def test_a_clients_deadline_reaches_the_worker(envoy):
    cats = envoy.worker("cats", "1.0")
    with envoy.running(Registered(workers=(cats,), defaults={"cats": "1.0"})):
        sent = {WITHIN: "70", FRONT_WITHIN: "99999"}
        answer = envoy.client.post("/predictions/cats", headers=sent)
        assert answer.headers["within"] == "70"
        assert envoy.client.post("/predictions/cats").headers["within"] == "None"


def test_a_changed_default_loses_no_request(envoy):
    one, two = envoy.worker("cats", "1.0"), envoy.worker("cats", "2.0")
    before = Registered(workers=(one,), defaults={"cats": "1.0"})
    after = Registered(workers=(two,), defaults={"cats": "2.0"})
    with envoy.running(before):
        ended = threading.Event()
        answered: list[str] = []

        def ask() -> None:
            with httpx.Client(base_url=envoy.client.base_url, trust_env=False) as client:
                while not ended.is_set():
                    answer = client.post("/predictions/cats", content=b"x")
                    answered.append(answer.text.split()[0] if answer.is_success else answer.text)

        with ThreadPoolExecutor(4) as crowd:
            asking = [crowd.submit(ask) for _ in range(4)]
            until(lambda: len(answered) > 100)
            envoy.files.update(Registered(workers=(one, two), defaults={"cats": "1.0"}))
            envoy.files.update(Registered(workers=(one, two), defaults={"cats": "2.0"}))
            until(lambda: answered[-1] == "cats/2.0/1")
            envoy.files.update(after)
            envoy.workers.end("cats/1.0/1")
            count = len(answered)
            until(lambda: len(answered) > count + 100)
            ended.set()
            for each in asking:
                each.result(10)
        assert set(answered) == {"cats/1.0/1", "cats/2.0/1"}
        assert set(answered[count + 50 :]) == {"cats/2.0/1"}


def test_a_worker_that_is_gone_costs_no_request(envoy):
    alive, dead = envoy.worker("cats", "1.0", 1), envoy.worker("cats", "1.0", 2)
    with envoy.running(Registered(workers=(alive, dead), defaults={"cats": "1.0"})):
        envoy.workers.end("cats/1.0/2")
        Path(dead.socket).unlink(missing_ok=True)
        for _ in range(50):
            assert envoy.said("/predictions/cats").split()[0] == "cats/1.0/1"


def test_a_version_without_workers_goes_to_torchserve(envoy):
    cats = envoy.worker("cats", "1.0")
    with envoy.running(Registered(workers=(cats,), defaults={"cats": "1.0"})):
        assert envoy.said("/predictions/cats").split()[0] == "cats/1.0/1"
        envoy.files.update(Registered(defaults={"cats": "1.0"}))
        until(lambda: envoy.said("/predictions/cats").split()[0] == "torchserve")


def test_envoys_own_errors_have_torchserves_form(envoy):
    gone = Announced(
        name="gone", version="1", pid=1, socket=f"{envoy.config.folder}/gone", answer_within_s=1
    )
    with envoy.running(Registered(workers=(gone,), defaults={"gone": "1"})):
        answer = envoy.client.post("/predictions/gone")
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
        assert answer.json()["code"] == 503
        assert answer.json()["type"] == "ServiceUnavailableException"
        many = {f"x-{number}": "y" * 7000 for number in range(10)}
        assert envoy.client.get("/ping", headers=many).status_code == 431


def test_requests_that_are_being_answered_are_counted(envoy):
    with envoy.running(Registered()):
        assert envoy.said("/ping").startswith("torchserve")
        assert envoy.admin.active_requests() == 0
        envoy.admin.drain()
        answer = envoy.client.get("/ping")
        assert answer.is_success and answer.headers["connection"] == "close"
    assert not envoy.admin.is_ready()


def test_what_could_not_be_written_is_written_the_next_time(envoy, monkeypatch):
    one, two = envoy.worker("cats", "1.0"), envoy.worker("cats", "2.0")
    after = Registered(workers=(two,), defaults={"cats": "2.0"})
    with envoy.running(Registered(workers=(one,), defaults={"cats": "1.0"})):
        with monkeypatch.context() as full:
            full.setattr("shipway.front.envoy.atomic_write", full_disk)
            with pytest.raises(OSError, match="No space left"):
                envoy.files.update(after)
        assert envoy.said("/predictions/cats").split()[0] == "cats/1.0/1"
        envoy.files.update(after)
        until(lambda: envoy.said("/predictions/cats").split()[0] == "cats/2.0/1")


def full_disk(*arguments: object, **options: object) -> None:
    raise OSError(28, "No space left on device")
