"""When each client sends: a load shape's arrivals, handed to clients one by one.

For gevent's greenlets. Moments are seconds of time.monotonic().
"""

import ctypes
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import gevent
from gevent.hub import get_hub
from gevent.lock import Semaphore

from shipway.loadtest.shapes.base import LoadShape


class NoMoreRequests(Exception):
    """The load is over: there is nothing left to send."""


class Schedule(Protocol):
    """Hands arrivals to clients."""

    @property
    def waiting(self) -> Sequence[float]:
        """The intended starts of requests that are due and that no client has taken."""

    def next_start(self) -> float:
        """Waits for a client's next request and returns its intended start. Raises
        NoMoreRequests."""

    def run(self) -> None:
        """Works until the last arrival, in a greenlet of its own."""

    def abandon(self) -> None:
        """Counts all arrivals that are left as waiting; called when the load has no more time."""


class OnDemand:
    """Each arrival is taken by a client that is free."""

    waiting: Sequence[float] = ()

    def __init__(self, shape: LoadShape, start: float, end: float) -> None:
        self._arrivals = shape.arrivals(start, end, time.monotonic)

    def next_start(self) -> float:
        """The shape's next moment; waits for it if it lies ahead."""
        moment = next(self._arrivals, None)
        if moment is None:
            raise NoMoreRequests
        if (ahead_s := moment - time.monotonic()) > 0:
            gevent.sleep(ahead_s)
        return moment

    def run(self) -> None:
        """Nothing: clients take arrivals themselves."""

    def abandon(self) -> None:
        """Nothing: an arrival that no client takes does not exist."""


class ByTheClock:
    """Arrivals come when they are due, and queue until a client is free."""

    def __init__(
        self, shape: LoadShape, start: float, end: float, add_client: Callable[[], None]
    ) -> None:
        """`add_client` is called for an arrival that finds no client idle."""
        self._add_client = add_client
        self._clients, self._most_clients = shape.clients_at_start(), shape.clients_at_most()
        self._ahead = shape.arrivals(start, end, time.monotonic)
        self._due: deque[float] = deque()
        self._is_due = Semaphore(0)
        self._idle = 0

    @property
    def waiting(self) -> Sequence[float]:
        """The intended starts of requests that are due and that no client has taken."""
        return self._due

    def next_start(self) -> float:
        """The earliest arrival that is due; waits for one. Raises NoMoreRequests."""
        self._idle += 1
        self._is_due.acquire()
        self._idle -= 1
        if not self._due:
            raise NoMoreRequests
        return self._due.popleft()

    def run(self) -> None:
        """Queues arrivals until the last one, then tells every client that it is over."""
        alarm = Alarm()
        for moment in self._ahead:
            alarm.sleep_until(moment)
            self._due.append(moment)
            if self._idle < len(self._due) and self._clients < self._most_clients:
                self._clients += 1
                self._add_client()
            self._is_due.release()
        for _ in range(self._clients):
            self._is_due.release()

    def abandon(self) -> None:
        """Counts all arrivals that are left as waiting."""
        self._due.extend(self._ahead)


class Alarm:
    """Wakes a greenlet within about 0.1 ms. gevent.sleep is 0.7 ms late on average, because epoll
    counts whole milliseconds."""

    def __init__(self) -> None:
        self._set = ctypes.CDLL(None).timerfd_settime
        clock_monotonic, absolute, for_reading = 1, 1, 1
        flags = os.O_NONBLOCK | os.O_CLOEXEC
        self._file = ctypes.CDLL(None).timerfd_create(clock_monotonic, flags)
        self._absolute = absolute
        self._readable = get_hub().loop.io(self._file, for_reading)

    def sleep_until(self, moment: float) -> None:
        """Returns at `moment`, or after other greenlets have run if it has passed."""
        if moment <= time.monotonic():
            # A greenlet that is always late would otherwise never let the others run.
            gevent.sleep(0)
            return
        seconds, rest = divmod(moment, 1.0)
        once = (ctypes.c_long * 4)(0, 0, int(seconds), max(1, int(rest * 1e9)))
        self._set(self._file, self._absolute, once, None)
        get_hub().wait(self._readable)
        os.read(self._file, 8)
