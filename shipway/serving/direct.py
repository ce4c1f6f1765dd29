"""Answers HTTP requests in a worker's own process, on a unix socket, beside its server's own.

A worker that serves this way announces itself by STARTER.json in the folder of its socket,
STARTER.sock. STARTER is the id of the process that replaces it when it dies, if there is one; else
its own. The folder is private to the user that runs the server.
"""

import asyncio
import faulthandler
import json
import logging
import os
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import unquote

import uvloop

from shipway.files import atomic_write
from shipway.payloads.request import Request
from shipway.processes import began
from shipway.runtime.backends.errors import DeviceLost
from shipway.serving import grpc_calls
from shipway.serving.batcher import Batcher
from shipway.serving.direct_config import DirectConfig
from shipway.serving.encodings import decoded
from shipway.serving.grpc_calls import Call, Described
from shipway.serving.http1 import Answer, Application, Connection, Held, HttpRequest, too_large
from shipway.serving.http_forms import fields_of
from shipway.serving.memory import FreeMemory
from shipway.serving.progress import BEAT_EVERY_S, DUMP_SIGNAL, ProgressFile
from shipway.serving.replies import Reply, encode, refusal, refused_by_server
from shipway.serving.service import Service
from shipway.serving.statuses import REQUEST_ID, STATUS_OF

logger = logging.getLogger(__name__)

STDERR = 2
MOST_HELD_BYTES = 2**28
"""Of the bodies of all requests that arrive or wait: twelve times the largest by default."""
PREDICT = ":predict"
"""The end of a path of KServe's first protocol."""
KEPT = ("Shipway-Version", "Shipway-Artifact", "Shipway-Program", "Shipway-Batch", "Server-Timing")
"""The headers of a reply that the answer to a gRPC call has too."""


class DirectServer:
    """Serves one model on a unix socket, from an event loop in a thread of its own."""

    def __init__(
        self,
        service: Service,
        config: DirectConfig,
        *,
        name: str,
        starter: int,
        batch_size: int,
        readers: int,
        answer_within_s: float,
        calls: Mapping[str, Call],
        lost: Callable[[DeviceLost | SystemExit], None],
    ) -> None:
        """`name` is what the model is registered under. `starter` is the process that replaces this
        one if it dies. `batch_size` counts requests. `readers` is the number of threads that
        decode. A worker that takes longer than `answer_within_s` for a batch hangs. `calls` are
        gRPC calls by path. `lost` is called if the program's device cannot be used any more, or if
        the program exits."""
        self._service = service
        self._config = config
        self._name = name
        self._batch_size = batch_size
        self._readers = readers
        self._answer_within_s = answer_within_s
        self._calls = calls
        self._lost = lost
        self._starter = starter
        self.socket = config.folder / f"{starter}.sock"
        self._announcement = config.folder / f"{starter}.json"
        self._progress = ProgressFile(config.folder / f"{starter}.progress")
        self._announced: bytes | None = None
        """What the announcement says, once this worker may have requests."""
        self._batcher: Batcher | None = None
        self._held = Held(max(MOST_HELD_BYTES, 2 * config.max_body_bytes))
        self._free_memory = FreeMemory()
        self._listening = threading.Event()

    def start(self) -> None:
        """Returns when it listens and has announced itself."""
        faulthandler.register(DUMP_SIGNAL, file=STDERR)
        threading.Thread(target=self._run, name="direct", daemon=True).start()
        self._listening.wait()
        manifest = self._service.model.manifest
        announced = {
            "pid": os.getpid(),
            "began": began(os.getpid()),
            "starter": self._starter,
            "starter_began": began(self._starter),
            "name": self._name,
            "version": manifest.version,
            "socket": str(self.socket),
            "answer_within_s": self._answer_within_s,
            "dumps": True,
        }
        self._announced = json.dumps(announced).encode()
        try:
            self._announce()
        except OSError as error:  # a full disk
            logger.warning("the front is not told of this worker yet: %s", error)

    def _announce(self) -> None:
        """Writes the announcement unless it is there. `_beat` tries again what a full disk has
        prevented, and writes again what others have changed. Raises OSError."""
        if self._announced is None:
            return
        with suppress(FileNotFoundError):
            if self._announcement.read_bytes() == self._announced:
                return
        try:
            atomic_write(self._announcement, self._announced)
        except OSError:
            # On a full disk there is room in the place of what this worker's predecessor said.
            with self._announcement.open("r+b") as file:
                file.write(self._announced)
                file.truncate()

    @property
    def unanswered(self) -> int:
        """Requests that have no reply yet."""
        return self._batcher.unanswered if self._batcher else 0

    def _run(self) -> None:
        loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)
        batcher = self._batcher = Batcher(
            self._service,
            loop,
            batch_size=self._batch_size,
            most_waiting=self._config.most_waiting,
            readers=self._readers,
            progress=self._progress,
            lost=self._lost,
        )
        limit = self._config.max_body_bytes
        routes = Routes(self._service, batcher, self._calls, limit)
        connections: set[Connection] = set()
        # Kept: a server that nothing refers to is closed.
        self._server = loop.run_until_complete(
            loop.create_unix_server(
                lambda: Connection(routes, connections, limit, self._held),
                path=str(self.socket),
                backlog=1024,
            )
        )
        self.socket.chmod(0o600)
        self._beat(loop)
        self._listening.set()
        loop.run_forever()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._progress.beat()
        if not self.unanswered and not self._held.bytes:
            self._free_memory.look()
        with suppress(OSError):
            self._announce()
        loop.call_later(BEAT_EVERY_S, self._beat, loop)


class Routes(Application):
    """What a worker answers, by path: inference in all forms, and the model's metadata."""

    def __init__(
        self, service: Service, batcher: Batcher, calls: Mapping[str, Call], max_body_bytes: int
    ) -> None:
        self._limit = max_body_bytes
        self._service = service
        self._batcher = batcher
        self._calls = calls

    def why_refused(self, head: HttpRequest) -> Reply | None:
        """The reply for a path that does not exist, or for a method that it does not have."""
        allowed = ("POST",) if head.path in self._calls else _methods_of(head.path)
        if not allowed:
            return refused_by_server(
                404,
                "ResourceNotFoundException",
                f"The path {unquote(head.path)[:100]!r} does not exist. Send requests to "
                "/predictions/NAME or /v2/models/NAME/infer.",
            )
        if head.method not in allowed:
            return refused_by_server(
                405,
                "MethodNotAllowedException",
                f"The method {head.method} is not allowed here. Use {' or '.join(allowed)}.",
                {"Allow": ", ".join(allowed)},
            )
        return None

    def handle(self, request: HttpRequest, answer: Answer) -> None:
        """Answers a request whose path and method are allowed."""
        identity = request.headers.get(REQUEST_ID) or str(uuid.uuid4())
        if call := self._calls.get(request.path):
            self._handle_call(call, request, identity, answer)
            return

        def answered(reply: Reply) -> None:
            reply.headers[REQUEST_ID] = identity
            answer(reply)

        last = request.path.rpartition("/")[2]
        if request.path.startswith("/v1/") and not last.endswith(PREDICT):
            answered(Reply(encode({"name": unquote(last), "ready": True})))
            return
        if request.path.startswith("/v2/") and last != "infer":
            described = self._service.describe()["metadata"]
            if last == "ready":
                described = {"name": described["name"], "ready": True}
            answered(Reply(encode(described)))
            return
        headers = request.headers
        try:
            body = decoded(request.body, headers.pop("content-encoding", ""), self._limit)
            if body is None:
                answered(too_large(self._limit))
                return
            fields = fields_of(request.query, headers.get("content-type", ""), body)
        except tuple(STATUS_OF) as error:
            answered(refusal(error))
            return
        protocol = "v1" if request.path.startswith("/v1/") else ""
        read = Request(fields, headers, identity, protocol)
        self._batcher.submit(read, len(body), answered, request.is_wanted)

    def refused(self, head: HttpRequest, refusal: Reply) -> Reply:
        """A refusal in the form of the request's protocol."""
        return grpc_calls.failed(refusal) if head.path in self._calls else refusal

    def _handle_call(self, call: Call, request: HttpRequest, identity: str, answer: Answer) -> None:
        def answered(reply: Reply) -> None:
            told = grpc_calls.failed(reply)
            if reply.status == 200:
                told = grpc_calls.answered(call.reply(reply))
                kept = {name: reply.headers[name] for name in KEPT if name in reply.headers}
                told.headers |= kept
            told.headers[REQUEST_ID] = identity
            answer(told)

        try:
            found = call.request(request.body, request.headers, identity)
        except tuple(STATUS_OF) as error:
            answered(refusal(error))
            return
        if isinstance(found, Described):
            answer(grpc_calls.answered(found.message))
        else:
            self._batcher.submit(found, len(request.body), answered, request.is_wanted)


def _methods_of(path: str) -> tuple[str, ...]:
    """The methods that a path has; none for a path that does not exist."""
    match path.split("/")[1:]:
        case ["predictions", _] | ["predictions", _, _]:
            return ("POST", "PUT", "GET")
        case ["v1", "models", last]:
            return ("POST",) if last.endswith(PREDICT) else ("GET", "HEAD")
        case ["v2", "models", _, "infer"] | ["v2", "models", _, "versions", _, "infer"]:
            return ("POST",)
        case (
            ["v2", "models", _]
            | ["v2", "models", _, "ready"]
            | ["v2", "models", _, "versions", _]
            | ["v2", "models", _, "versions", _, "ready"]
        ):
            return ("GET", "HEAD")
    return ()
