"""The clients of a load test, as Locust users: one over HTTP, one over gRPC.

Only the generator's process may import this module: Locust patches the standard library for gevent.

Moments are seconds of time.monotonic().
"""

import errno
import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import gevent
from geventhttpclient.client import HTTPClient
from geventhttpclient.response import HTTPParseError, HTTPSocketPoolResponse
from locust import User, task
from locust.env import Environment
from locust.exception import StopUser

from shipway import tls
from shipway.engines.torchserve.refusals import TOKEN_REFUSED, grpc_refusal, refusal_in
from shipway.loadtest.load_test import Input, LoadTest
from shipway.loadtest.schedule import NoMoreRequests, Schedule

RECONNECT_AFTER_S = 0.1
"""A client that cannot connect waits so long before it tries again, so as not to spin."""
BLOCK_BYTES = 1 << 16
FILES_USED_UP = "the load generator may open no more connections: raise `ulimit -n`"
OWN_ERRORS = {
    errno.EMFILE: FILES_USED_UP,
    errno.ENFILE: FILES_USED_UP,
    errno.EADDRNOTAVAIL: "the load generator's machine has no free port for another connection",
}
"""Errors of a connection that say nothing of the server."""
EXPIRED = "the token was taken before the load began, and is refused now: it has expired"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request failed."""

    kind: str
    """http, grpc, timeout or connection; generator where the server is not to blame."""
    status: str
    """The HTTP or gRPC status; empty if no answer came."""
    type: str
    """The type of error that the answer names, or of the client's exception."""
    message: str


NEVER_SENT = Failure("timeout", "", "NeverSent", "no free client in time")
NO_ANSWER = Failure("timeout", "", "NoAnswer", "no answer within the timeout")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what became of it."""

    intended: float
    """When it was to be sent. A closed loop sends at once, so there it is when it was sent."""
    sent: float
    ended: float
    handler_ms: float | None = None
    """Time in the handler, as the answer's Server-Timing header says; None if it does not."""
    failure: Failure | None = None


Sink = Callable[[Exchange, Input], None]


class LoadEnvironment(Environment):
    """Locust's environment, with what these users share."""

    def __init__(self, load_test: LoadTest, schedule: Schedule, sink: Sink) -> None:
        user = GrpcClient if load_test.target.protocol == "grpc" else HttpClient
        super().__init__(user_classes=[user])
        self.load_test, self.schedule, self.sink = load_test, schedule, sink
        self.user = user
        self.places = itertools.count()
        """The number of each client that starts."""
        self.under_way: dict[User, float] = {}
        """The intended start of the request that each busy client has sent."""


class Client(User):
    """One client: a connection of its own, one request at a time."""

    abstract = True
    environment: LoadEnvironment

    def on_start(self) -> None:
        """Each client starts at a different input."""
        inputs = self.environment.load_test.inputs
        start = next(self.environment.places) % len(inputs)
        self._inputs: Iterator[Input] = itertools.cycle(inputs[start:] + inputs[:start])

    @task
    def request(self) -> None:
        """Sends the next request when the schedule says so."""
        environment = self.environment
        try:
            intended = environment.schedule.next_start()
        except NoMoreRequests:
            raise StopUser from None
        environment.under_way[self] = intended
        chosen = next(self._inputs)
        sent = time.monotonic()
        handler_ms, failure = (
            self.send(chosen)
            if sent - intended < environment.load_test.timeout_s
            else (None, NEVER_SENT)
        )
        exchange = Exchange(intended, sent, time.monotonic(), handler_ms, failure)
        del environment.under_way[self]
        environment.sink(exchange, chosen)
        if failure and failure.kind == "connection":
            gevent.sleep(RECONNECT_AFTER_S)

    def send(self, chosen: Input) -> tuple[float | None, Failure | None]:
        """Returns the handler's milliseconds if the answer states them, and the failure if any."""
        raise NotImplementedError


class HttpClient(Client):
    """A client over HTTP. It uses geventhttpclient directly: Locust's FastHttpSession doubles the
    cost of a request."""

    def on_start(self) -> None:
        """Opens the connection pool."""
        super().on_start()
        load_test = self.environment.load_test
        parts = urlsplit(load_test.target.url)
        self._path = load_test.target.path
        self._client = HTTPClient.from_url(
            f"{parts.scheme}://{parts.netloc}/",
            headers=load_test.headers,
            connection_timeout=load_test.timeout_s,
            network_timeout=load_test.timeout_s,
            block_size=BLOCK_BYTES,
            insecure=load_test.target.certificate is not None,  # host names are not compared
            ssl_context_factory=lambda **_: load_test.target.trust,
        )

    def on_stop(self) -> None:
        """Closes its connections."""
        self._client.close()

    def send(self, chosen: Input) -> tuple[float | None, Failure | None]:
        """A POST; any status from 400 on is a failure."""
        headers = {
            "content-type": chosen.content_type,
            # With it the handler knows how long the request waited before it.
            "x-request-start": f"t={time.time():.6f}",
        }
        try:
            reply = self._client.request("POST", self._path, chosen.body, headers)
            body = reply.read()
        except TimeoutError as error:
            return None, Failure("timeout", "", type(error).__name__, str(error))
        except (OSError, HTTPParseError) as error:
            if isinstance(error, OSError) and error.errno in OWN_ERRORS:
                return None, _own("", errno.errorcode[error.errno], OWN_ERRORS[error.errno])
            return None, Failure("connection", "", type(error).__name__, str(error))
        if reply.status_code >= 400:
            return None, _http_failure(reply, bytes(body))
        return _handler_ms(reply.get("server-timing")), None


class GrpcClient(Client):
    """A client over gRPC, with TorchServe's inference service."""

    def on_start(self) -> None:
        """Opens the channel."""
        super().on_start()
        grpc, stubs = _grpc_and_stubs()
        load_test = self.environment.load_test
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),  # a connection of its own
        ]
        self._channel = tls.channel(load_test.target.address, load_test.target.certificate, options)
        self._predict = stubs.inference_pb2_grpc.InferenceAPIsServiceStub(self._channel).Predictions
        self._request = stubs.inference_pb2.PredictionsRequest
        self._metadata = tuple((key.lower(), value) for key, value in load_test.headers.items())
        self._error = grpc.RpcError

    def on_stop(self) -> None:
        """Closes its connection."""
        self._channel.close()

    def send(self, chosen: Input) -> tuple[float | None, Failure | None]:
        """A call of Predictions; gRPC answers do not tell the handler's time."""
        target = self.environment.load_test.target
        request = self._request(
            model_name=target.model, model_version=target.version or "", input={"body": chosen.body}
        )
        try:
            reply = self._predict(
                request, metadata=self._metadata, timeout=self.environment.load_test.timeout_s
            )
        except self._error as error:
            return None, _grpc_failure(error)
        # TorchServe drops a handler's status over gRPC: a 4xx arrives as a normal answer.
        if b'"code"' in (body := reply.prediction) and (refusal := refusal_in(body)):
            return None, Failure("grpc", str(refusal.code), refusal.type, str(refusal))
        return None, None


@cache
def _grpc_and_stubs() -> tuple[Any, Any]:
    # grpc is prepared for gevent only where it is used, before any channel is opened.
    import grpc
    import grpc.experimental.gevent

    from shipway.engines.torchserve import protos

    grpc.experimental.gevent.init_gevent()
    return grpc, protos.load()


def _http_failure(reply: HTTPSocketPoolResponse, body: bytes) -> Failure:
    status = str(reply.status_code)
    if refusal := refusal_in(body):
        if refusal.type == TOKEN_REFUSED:
            return _own(status, refusal.type, EXPIRED)
        return Failure("http", status, refusal.type, str(refusal))
    return Failure("http", status, reply.status_message or "", body.decode(errors="replace"))


def _grpc_failure(error: Any) -> Failure:
    status = error.code().name
    details = error.details() or ""
    if status in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return _own(status, TOKEN_REFUSED, EXPIRED)
    for number, what in OWN_ERRORS.items():
        if os.strerror(number) in details:
            return _own(status, errno.errorcode[number], what)
    refusal = grpc_refusal(status, details)
    kind = {"DEADLINE_EXCEEDED": "timeout", "UNAVAILABLE": "connection"}.get(status, "grpc")
    return Failure(kind, status, "" if refusal.type == status else refusal.type, str(refusal))


def _own(status: str, type_: str, message: str) -> Failure:
    return Failure("generator", status, type_, message)


def _handler_ms(server_timing: str | list[str] | None) -> float | None:
    if not isinstance(server_timing, str):
        return None
    try:
        return float(server_timing.partition("total;dur=")[2].partition(",")[0])
    except ValueError:
        return None
