"""The load generator, in a process of its own: `python -m shipway.loadtest.generator [WEB_PORT]`.

It reads one line, a LoadTest as JSON, and writes a Tick a second. It ends when the load is over or
when its input closes, so it never outlives its parent. With a port it serves Locust's web page
instead.
"""

import gc
import math
import os
import sys
import time
from collections import Counter
from pathlib import Path

import gevent
import gevent.os
from gevent.event import Event
from gevent.hub import get_hub
from locust.stats import stats_history

from shipway.loadtest.load_test import Input, LoadTest
from shipway.loadtest.open_files import allow_files
from shipway.loadtest.schedule import Alarm, ByTheClock, OnDemand, Schedule
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.ticks import Tick
from shipway.loadtest.users import NO_ANSWER, Exchange, Failure, LoadEnvironment

LAG_SAMPLE_EVERY_S = 0.01
GRACE_S = 0.5
"""After the timeout, for answers that arrive just as their clients give up."""


class Generator:
    """One run of a load test."""

    def __init__(self, load_test: LoadTest) -> None:
        self._load_test = load_test
        self._start = time.monotonic()
        self._zero = self._start + load_test.warm_up_s
        self._end = self._zero + load_test.seconds
        shape = load_test.load
        self._schedule: Schedule = (
            ByTheClock(shape, self._start, self._end, self._add_client)
            if shape.is_open
            else OnDemand(shape, self._start, self._end)
        )
        self._environment = LoadEnvironment(load_test, self._schedule, self._record)
        self._runner = self._environment.create_local_runner()
        self._answers: list[tuple[float, int, int, float | None]] = []
        self._failures: Counter[tuple[int, tuple[str, str, str]]] = Counter()
        self._messages: dict[tuple[str, str, str], str] = {}
        self._lags_us: list[int] = []
        self._usage = Usage()
        self._over = Event()

    def run(self) -> None:
        """Returns when the load is over and answered, or when the input closes."""
        reporter, lag_watch = gevent.spawn(self._report), gevent.spawn(self._measure_lag)
        load, orphaned = gevent.spawn(self._load), gevent.spawn(_until_input_closes)
        gevent.wait([load, orphaned], count=1)
        finished = load.ready()
        gevent.killall([lag_watch, load, orphaned])
        self._runner.user_greenlets.kill()
        if finished:
            load.get()
            self._count_unanswered()
        self._over.set()
        reporter.join()  # it may be in the middle of a line
        self._write(last=finished)

    def _load(self) -> None:
        deadline = self._end + self._load_test.timeout_s + GRACE_S
        for _ in range(self._load_test.load.clients_at_start()):
            self._add_client()
        schedule = gevent.spawn(self._schedule.run)
        schedule.join(deadline - time.monotonic())
        schedule.kill()
        schedule.get()
        self._runner.user_greenlets.join(max(0.0, deadline - time.monotonic()))

    def _add_client(self) -> None:
        self._runner.spawn_users({self._environment.user.__name__: 1})

    def _record(self, exchange: Exchange, _: Input) -> None:
        intended = exchange.intended - self._zero
        if exchange.failure:
            self._fail(intended, exchange.failure)
            return
        latency_us = round(1e6 * (exchange.ended - exchange.intended))
        service_us = round(1e6 * (exchange.ended - exchange.sent))
        self._answers.append((round(intended, 6), latency_us, service_us, exchange.handler_ms))

    def _fail(self, intended: float, failure: Failure) -> None:
        which = (failure.kind, failure.status, failure.type)
        self._messages.setdefault(which, failure.message[:300])
        self._failures[math.floor(intended), which] += 1

    def _count_unanswered(self) -> None:
        """Whatever has no answer by now counts as an error."""
        self._schedule.abandon()
        for moment in [*self._environment.under_way.values(), *self._schedule.waiting]:
            self._fail(moment - self._zero, NO_ANSWER)

    def _measure_lag(self) -> None:
        alarm = Alarm()
        while True:
            due = time.monotonic() + LAG_SAMPLE_EVERY_S
            alarm.sleep_until(due)
            self._lags_us.append(round(1e6 * (time.monotonic() - due)))

    def _report(self) -> None:
        due = self._start + 1.0
        while not self._over.wait(due - time.monotonic()):
            self._write()
            due += 1.0

    def _write(self, *, last: bool = False) -> None:
        cpu, busy = self._usage.since_last()
        tick = Tick(
            at=time.monotonic() - self._zero,
            answers=self._answers,
            errors=[
                (second, *which, self._messages[which], count)
                for (second, which), count in self._failures.items()
            ],
            cpu=cpu,
            busy=busy,
            lags_us=self._lags_us,
            clients=self._runner.user_count,
            waiting=len(self._schedule.waiting),
            last=last,
        )
        self._answers, self._failures, self._lags_us = [], Counter(), []
        line = tick.line()
        while line:  # in pieces, so that a full pipe does not stop the event loop
            line = line[gevent.os.nb_write(sys.stdout.fileno(), line) :]


class Usage:
    """How much of a core this process uses, and how much it asks for."""

    def __init__(self) -> None:
        self._last = self._now()

    def since_last(self) -> tuple[float, float]:
        """Two shares of the time since the last call: of a core, in processor time; and that in
        which the event loop ran or waited for a core."""
        before, self._last = self._last, self._now()
        wall, cpu, busy = (now - then for now, then in zip(self._last, before, strict=True))
        return cpu / wall, busy / wall

    def _now(self) -> tuple[float, float, float]:
        try:
            # Of the main thread, which runs the loop: nanoseconds run and waited for a core.
            ran, waited, _ = map(int, Path("/proc/self/schedstat").read_text().split())
        except OSError:  # a kernel without schedstat
            ran, waited = time.thread_time_ns(), 0
        return time.monotonic(), time.process_time(), (ran + waited) / 1e9


def _until_input_closes() -> None:
    readable = get_hub().loop.io(sys.stdin.fileno(), 1)
    while True:
        get_hub().wait(readable)
        if not os.read(sys.stdin.fileno(), 1 << 16):
            return


def serve_web(load_test: LoadTest, port: int) -> None:
    """Locust's web page, where the number of clients of a closed loop is set."""
    schedule = OnDemand(ClosedLoop(clients=1), time.monotonic(), math.inf)
    environment = LoadEnvironment(load_test, schedule, lambda *_: None)
    events = environment.events.request

    def fire(exchange: Exchange, sent: Input) -> None:
        events.fire(
            request_type=load_test.target.protocol,
            name=sent.name,
            response_time=1000 * (exchange.ended - exchange.intended),
            response_length=0,
            exception=exchange.failure and RuntimeError(str(exchange.failure)),
            context={},
        )

    environment.sink = fire
    environment.host = load_test.target.url
    runner = environment.create_local_runner()
    page = environment.create_web_ui("127.0.0.1", port).greenlet
    assert page
    page.join(0.3)
    if page.ready():
        page.get()  # raises why it cannot listen
    gevent.spawn(stats_history, runner)
    print("ready", flush=True)
    _until_input_closes()
    runner.quit()


def main() -> None:
    """Runs the load test of the first line of input."""
    load_test = LoadTest.read(sys.stdin.buffer.readline())
    web_port = sys.argv[1:]
    del sys.argv[1:]  # Locust would parse it as an option of its own
    if web_port:
        serve_web(load_test, int(*web_port))
        return
    gevent.os.make_nonblocking(sys.stdout.fileno())
    allow_files(load_test.load)
    generator = Generator(load_test)
    gc.freeze()  # a collection that looks through all modules would stop the loop for milliseconds
    generator.run()


if __name__ == "__main__":
    main()
