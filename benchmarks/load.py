"""Clients in a closed loop: each sends its next request when it has the answer to the last.

Plain sockets and threads: a request costs the generator some 0.1 ms, which it must not take from a
server on the same cores.
"""

import http.client
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is sent, and for how long."""

    url: str
    bodies: Sequence[bytes]
    """In turns; each client starts at another one."""
    headers: Mapping[str, str]
    clients: int
    warm_up_s: float = 4.0
    """Not counted."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    latency_ms: np.ndarray
    """Of each request that was answered with 200, in no order."""
    handler_ms: np.ndarray
    """What the handler says that each took, in Server-Timing; empty if it says nothing."""
    errors: dict[int, int]
    """By status: how many requests were answered otherwise."""
    seconds: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latency_ms) / self.seconds

    @property
    def p50_ms(self) -> float:
        return float(np.median(self.latency_ms)) if len(self.latency_ms) else float("inf")


def run(load: Load) -> Outcome:
    """Runs the load to its end; a client that cannot connect raises OSError here."""
    start = time.monotonic() + load.warm_up_s
    end = start + load.seconds
    clients = [_Client(load, place, start, end) for place in range(load.clients)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    for each in clients:
        if each.failure is not None:
            raise each.failure
    errors: dict[int, int] = {}
    for each in clients:
        for status, count in each.errors.items():
            errors[status] = errors.get(status, 0) + count
    return Outcome(
        latency_ms=np.array([ms for each in clients for ms in each.latency_ms]),
        handler_ms=np.array([ms for each in clients for ms in each.handler_ms]),
        errors=errors,
        seconds=load.seconds,
    )


class _Client(threading.Thread):
    def __init__(self, load: Load, place: int, start: float, end: float) -> None:
        super().__init__(daemon=True)
        self._load, self._place, self._from, self._to = load, place, start, end
        self.latency_ms: list[float] = []
        self.handler_ms: list[float] = []
        self.errors: dict[int, int] = {}
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            self._send()
        except Exception as error:
            self.failure = error

    def _send(self) -> None:
        parts = urlsplit(self._load.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        turn = self._place
        while (sent := time.monotonic()) < self._to:
            body = self._load.bodies[turn % len(self._load.bodies)]
            turn += 1
            start = time.perf_counter()
            connection.request("POST", parts.path, body, dict(self._load.headers))
            reply = connection.getresponse()
            reply.read()
            took_ms = 1000 * (time.perf_counter() - start)
            # Counted when it ends within the window, so that the rate is one of answers.
            if sent < self._from or time.monotonic() > self._to:
                continue
            if reply.status != 200:
                self.errors[reply.status] = self.errors.get(reply.status, 0) + 1
                continue
            self.latency_ms.append(took_ms)
            if stages := reply.headers.get("Server-Timing"):
                self.handler_ms.append(float(stages.rpartition("total;dur=")[2]))
