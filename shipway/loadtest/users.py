"""Locust's users: a client over HTTP and one over gRPC, in a closed and in an open loop.

Importing this module makes the process gevent's, through Locust: it belongs to the generator alone.

All moments are seconds of time.monotonic().
"""

import ctypes
import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol
from urllib.parse import urlsplit

import gevent
from gevent.hub import get_hub
from gevent.lock import Semaphore
from geventhttpclient.client import HTTPClient
from geventhttpclient.response import HTTPParseError, HTTPSocketPoolResponse
from locust import User, task
from locust.env import Environment
from locust.exception import StopUser

from shipway.engines.torchserve import tls
from shipway.engines.torchserve.inference import grpc_refusal, refusal_in
from shipway.loadtest.load import Input, Open, Plan

RECONNECT_AFTER_S = 0.1
"""A client in a closed loop that cannot connect waits, or it would do nothing but that."""
BLOCK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no answer that counts."""

    kind: str
    """http, grpc, timeout or connection"""
    status: str
    """An HTTP or gRPC status; empty where no answer came."""
    type: str
    """The exception that the answer names, or that the client met."""
    message: str


NEVER_SENT = Failure("timeout", "", "NeverSent", "all clients were busy for too long")
NO_ANSWER = Failure("timeout", "", "NoAnswer", "no answer in time")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request's outcome."""

    intended: float
    """When it was to be sent; in a closed loop that is when it was."""
    sent: float
    ended: float
    handler_ms: float | None = None
    """What the handler says that it took, in Server-Timing."""
    failure: Failure | None = None


class Schedule(Protocol):
    """Tells clients when to send."""

    @property
    def waiting(self) -> Sequence[float]:
        """The intended starts of what no client has taken."""

    def next_start(self) -> float:
        """Waits for the next request's intended start; raises StopUser after the last."""


Sink = Callable[[Asked, Input], None]


class LoadEnvironment(Environment):
    """Locust's environment with what these users need."""

    def __init__(self, plan: Plan, schedule: Schedule, sink: Sink) -> None:
        user = GrpcClient if plan.target.protocol == "grpc" else HttpClient
        super().__init__(user_classes=[user])
        self.plan, self.schedule, self.sink = plan, schedule, sink
        self.user = user
        self.places = itertools.count()
        self.under_way: dict[User, float] = {}
        """The intended start of what each busy client is asking."""


class Client(User):
    """One client: a connection of its own, one request at a time."""

    abstract = True
    environment: LoadEnvironment

    def on_start(self) -> None:
        inputs = self.environment.plan.inputs
        start = next(self.environment.places) % len(inputs)
        self._inputs: Iterator[Input] = itertools.cycle(inputs[start:] + inputs[:start])

    @task
    def ask(self) -> None:
        environment = self.environment
        intended = environment.schedule.next_start()
        environment.under_way[self] = intended
        chosen = next(self._inputs)
        sent = time.monotonic()
        handler_ms, failure = (
            self.send(chosen)
            if sent - intended < environment.plan.timeout_s
            else (None, NEVER_SENT)
        )
        asked = Asked(intended, sent, time.monotonic(), handler_ms, failure)
        del environment.under_way[self]
        environment.sink(asked, chosen)
        if failure and failure.kind == "connection":
            gevent.sleep(RECONNECT_AFTER_S)

    def send(self, chosen: Input) -> tuple[float | None, Failure | None]:
        """What the handler says that it took, if it answered and says so; and what went wrong."""
        raise NotImplementedError


class HttpClient(Client):
    """geventhttpclient without Locust's FastHttpSession around it, which doubles a request's
    cost."""

    def on_start(self) -> None:
        super().on_start()
        plan = self.environment.plan
        parts = urlsplit(plan.target.url)
        self._path = plan.target.path
        self._client = HTTPClient.from_url(
            f"{parts.scheme}://{parts.netloc}/",
            headers=plan.headers,
            connection_timeout=plan.timeout_s,
            network_timeout=plan.timeout_s,
            block_size=BLOCK_BYTES,
            insecure=plan.target.certificate is not None,  # its names do not matter, only its key
            ssl_context_factory=lambda **_: plan.target.trust,
        )

    def on_stop(self) -> None:
        self._client.close()

    def send(self, chosen: Input) -> tuple[float | None, Failure | None]:
        headers = {
            "content-type": chosen.content_type,
            # The handler then knows how long the request waited for it.
            "x-request-start": f"t={time.time():.6f}",
        }
        try:
            reply = self._client.request("POST", self._path, chosen.body, headers)
            body = reply.read()
        except TimeoutError as error:
            return None, Failure("timeout", "", type(error).__name__, str(error))
        except (OSError, HTTPParseError) as error:
            return None, Failure("connection", "", type(error).__name__, str(error))
        if reply.status_code >= 400:
            return None, _http_failure(reply, bytes(body))
        return _handler_ms(reply.get("server-timing")), None


class GrpcClient(Client):
    def on_start(self) -> None:
        super().on_start()
        grpc, stubs = _grpc_and_stubs()
        plan = self.environment.plan
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),  # a connection of its own
        ]
        self._channel = tls.channel(plan.target.address, plan.target.certificate, options)
        self._predict = stubs.inference_pb2_grpc.InferenceAPIsServiceStub(self._channel).Predictions
        self._request = stubs.inference_pb2.PredictionsRequest
        self._metadata = tuple((key.lower(), value) for key, value in plan.headers.items())
        self._error = grpc.RpcError

    def on_stop(self) -> None:
        self._channel.close()

    def send(self, chosen: Input) -> tuple[float | None, Failure | None]:
        target = self.environment.plan.target
        request = self._request(
            model_name=target.model, model_version=target.version or "", input={"body": chosen.body}
        )
        try:
            reply = self._predict(
                request, metadata=self._metadata, timeout=self.environment.plan.timeout_s
            )
        except self._error as error:
            return None, _grpc_failure(error)
        # TorchServe drops a handler's status here: its 4xx arrives as an answer like any other.
        if b'"code"' in (body := reply.prediction) and (refusal := refusal_in(body)):
            return None, Failure("grpc", str(refusal.code), refusal.type, str(refusal))
        return None, None


@cache
def _grpc_and_stubs() -> tuple[Any, Any]:
    import grpc
    import grpc.experimental.gevent

    from shipway.engines.torchserve import protos

    grpc.experimental.gevent.init_gevent()  # before any channel
    return grpc, protos.load()


def _http_failure(reply: HTTPSocketPoolResponse, body: bytes) -> Failure:
    status = str(reply.status_code)
    if refusal := refusal_in(body):
        return Failure("http", status, refusal.type, str(refusal))
    return Failure("http", status, reply.status_message or "", body.decode(errors="replace"))


def _grpc_failure(error: Any) -> Failure:
    status = error.code().name
    refusal = grpc_refusal(status, error.details() or "")
    kind = {"DEADLINE_EXCEEDED": "timeout", "UNAVAILABLE": "connection"}.get(status, "grpc")
    return Failure(kind, status, "" if refusal.type == status else refusal.type, str(refusal))


def _handler_ms(server_timing: str | list[str] | None) -> float | None:
    if not isinstance(server_timing, str):
        return None
    try:
        return float(server_timing.partition("total;dur=")[2].partition(",")[0])
    except ValueError:
        return None


class ClosedLoop:
    """The next request is sent when the last is answered."""

    waiting: Sequence[float] = ()

    def __init__(self, end: float) -> None:
        self._end = end

    def next_start(self) -> float:
        if (now := time.monotonic()) >= self._end:
            raise StopUser
        return now


class OpenLoop:
    """Poisson arrivals, queued until a client is free."""

    def __init__(
        self, load: Open, start: float, end: float, more_clients: Callable[[], None]
    ) -> None:
        """`more_clients` is called where an arrival finds no client idle."""
        self._most_clients, self._more_clients = load.most_clients, more_clients
        self._due = load.arrivals(start, end)
        self._arrived: deque[float] = deque()
        self._is_work = Semaphore(0)
        self._clients = self._idle = 0

    def next_start(self) -> float:
        self._idle += 1
        self._is_work.acquire()
        self._idle -= 1
        if not self._arrived:
            raise StopUser
        return self._arrived.popleft()

    @property
    def waiting(self) -> Sequence[float]:
        """Arrivals that no client has taken."""
        return self._arrived

    def arrive(self) -> None:
        """A greenlet's work: arrivals until the end, then word to every client that it is over."""
        alarm = Alarm()
        for moment in self._due:
            alarm.sleep_until(moment)
            self._arrived.append(moment)
            if self._idle < len(self._arrived) and self._clients < self._most_clients:
                self._clients += 1
                self._more_clients()
            self._is_work.release()
        for _ in range(self._clients):
            self._is_work.release()

    def give_up(self) -> None:
        """Takes what is still due for waiting."""
        self._arrived.extend(self._due)


class Alarm:
    """Wakes a greenlet within some 0.1 ms; gevent.sleep, in whole milliseconds of epoll, is 0.7 ms
    late on the average."""

    def __init__(self) -> None:
        self._set = ctypes.CDLL(None).timerfd_settime
        clock_monotonic, absolute, for_reading = 1, 1, 1
        flags = os.O_NONBLOCK | os.O_CLOEXEC
        self._file = ctypes.CDLL(None).timerfd_create(clock_monotonic, flags)
        self._absolute = absolute
        self._readable = get_hub().loop.io(self._file, for_reading)

    def sleep_until(self, moment: float) -> None:
        if moment <= time.monotonic():
            gevent.sleep(0)  # others first: whoever is always late would never let them
            return
        seconds, rest = divmod(moment, 1.0)
        once = (ctypes.c_long * 4)(0, 0, int(seconds), max(1, int(rest * 1e9)))
        self._set(self._file, self._absolute, once, None)
        get_hub().wait(self._readable)
        os.read(self._file, 8)
