"""A real Envoy with the files that are written for it, in front of workers on unix sockets."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from shipway.engines.ports import free_ports
from shipway.front.envoy import Admin, Files, find_envoy, start_envoy
from shipway.front.registered import Announced, Registered
from shipway.front.resources import FrontConfig, admin_socket
from shipway.serving.deadlines import FRONT_WITHIN
from shipway.serving.http1 import Answer, Connection, Held, HttpRequest
from shipway.serving.replies import Reply
from tests.front.workers import announced

ENVOY = find_envoy()


class Named:
    """A worker that answers with its name and what it got, after some time."""

    def __init__(self, name: str, takes_s: float) -> None:
        self.name, self.takes_s = name, takes_s

    def refused(self, head: HttpRequest, refusal: Reply) -> Reply:
        return refusal

    def why_refused(self, head: HttpRequest) -> Reply | None:
        return None

    def handle(self, request: HttpRequest, answer: Answer) -> None:
        said = f"{self.name} {request.path} {request.headers.get('authorization')} "
        within = str(request.headers.get(FRONT_WITHIN))
        reply = Reply(said.encode() + request.body, headers={"within": within})
        asyncio.get_running_loop().call_later(self.takes_s, answer, reply)


class Workers:
    """Workers in an event loop of their own, and a TorchServe that is one of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._servers: dict[str, asyncio.Server] = {}
        self.take_s = 0.0
        """Each request takes so long, whatever others there are."""

    def listen(self, name: str, port: int | None = None) -> str:
        """The socket of a new worker."""
        connections: set[Connection] = set()
        path = str(self._folder / f"{name.replace('/', '-')}.sock")

        def connection() -> Connection:
            return Connection(Named(name, self.take_s), connections, 2**24, Held(2**28))

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
        return announced(name, version, pid, socket=socket)

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
