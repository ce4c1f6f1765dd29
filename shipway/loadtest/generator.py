"""The load generator, a process of its own: `python -m shipway.loadtest.generator [WEB_PORT]`.

Its first line of input is a Plan as JSON. It writes a Tick a second and ends when the load is over,
or when its input closes: however its parent ends, it ends too. With a port it serves Locust's own
page instead.
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

from shipway.loadtest.load import Closed, Input, Open, Plan
from shipway.loadtest.ticks import Tick
from shipway.loadtest.users import (
    NO_ANSWER,
    Alarm,
    Asked,
    ClosedLoop,
    Failure,
    LoadEnvironment,
    OpenLoop,
)

WATCH_EVERY_S = 0.01
GRACE_S = 0.5
"""For answers that come just when their clients give up."""


class Generator:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._start = time.monotonic()
        self._zero = self._start + plan.warm_up_s
        self._end = self._zero + plan.seconds
        load = plan.load
        self._schedule = (
            OpenLoop(load, self._start, self._end, self._add_client)
            if isinstance(load, Open)
            else ClosedLoop(self._end)
        )
        self._environment = LoadEnvironment(plan, self._schedule, self._record)
        self._runner = self._environment.create_local_runner()
        self._answers: list[tuple[float, int, int, float | None]] = []
        self._failures: Counter[tuple[int, tuple[str, str, str]]] = Counter()
        self._messages: dict[tuple[str, str, str], str] = {}
        self._lags_us: list[int] = []
        self._usage = Usage()
        self._over = Event()

    def run(self) -> None:
        """Until the load is over and answered, or nobody listens any more."""
        teller, watch = gevent.spawn(self._tell), gevent.spawn(self._watch_the_loop)
        load, orphaned = gevent.spawn(self._load), gevent.spawn(_until_input_closes)
        gevent.wait([load, orphaned], count=1)
        finished = load.ready()
        gevent.killall([watch, load, orphaned])
        self._runner.user_greenlets.kill()
        if finished:
            load.get()
            self._give_up()
        self._over.set()
        teller.join()  # it may be in the middle of a line
        self._write(last=finished)

    def _load(self) -> None:
        deadline = self._end + self._plan.timeout_s + GRACE_S
        if isinstance(self._schedule, OpenLoop):
            arriving = gevent.spawn(self._schedule.arrive)
            arriving.join(deadline - time.monotonic())
            arriving.kill()
        elif isinstance(self._plan.load, Closed):
            for _ in range(self._plan.load.clients):
                self._add_client()
        self._runner.user_greenlets.join(max(0.0, deadline - time.monotonic()))

    def _add_client(self) -> None:
        self._runner.spawn_users({self._environment.user.__name__: 1})

    def _record(self, asked: Asked, _: Input) -> None:
        intended = asked.intended - self._zero
        if asked.failure:
            self._fail(intended, asked.failure)
            return
        latency_us = round(1e6 * (asked.ended - asked.intended))
        service_us = round(1e6 * (asked.ended - asked.sent))
        self._answers.append((round(intended, 6), latency_us, service_us, asked.handler_ms))

    def _fail(self, intended: float, failure: Failure) -> None:
        which = (failure.kind, failure.status, failure.type)
        self._messages.setdefault(which, failure.message[:300])
        self._failures[math.floor(intended), which] += 1

    def _give_up(self) -> None:
        """Whatever has no answer by now will get none that counts."""
        if isinstance(self._schedule, OpenLoop):
            self._schedule.give_up()
        for moment in [*self._environment.under_way.values(), *self._schedule.waiting]:
            self._fail(moment - self._zero, NO_ANSWER)

    def _watch_the_loop(self) -> None:
        alarm = Alarm()
        while True:
            due = time.monotonic() + WATCH_EVERY_S
            alarm.sleep_until(due)
            self._lags_us.append(round(1e6 * (time.monotonic() - due)))

    def _tell(self) -> None:
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
        while line:  # in pieces, which a pipe takes without stopping the loop
            line = line[gevent.os.nb_write(sys.stdout.fileno(), line) :]


class Usage:
    """How much of a core this process takes, and how much it would take."""

    def __init__(self) -> None:
        self._last = self._now()

    def since_last(self) -> tuple[float, float]:
        """Processor time over time; the share in which the event loop ran or waited for a core."""
        before, self._last = self._last, self._now()
        wall, cpu, busy = (now - then for now, then in zip(self._last, before, strict=True))
        return cpu / wall, busy / wall

    def _now(self) -> tuple[float, float, float]:
        try:
            # Of the first thread, which is the loop's: nanoseconds run, nanoseconds waited to run.
            ran, waited, _ = map(int, Path("/proc/self/schedstat").read_text().split())
        except OSError:  # a kernel without them
            ran, waited = time.thread_time_ns(), 0
        return time.monotonic(), time.process_time(), (ran + waited) / 1e9


def _until_input_closes() -> None:
    readable = get_hub().loop.io(sys.stdin.fileno(), 1)
    while True:
        get_hub().wait(readable)
        if not os.read(sys.stdin.fileno(), 1 << 16):
            return


def serve_web(plan: Plan, port: int) -> None:
    """Locust's own page: how many clients there are is set there, in a closed loop."""
    environment = LoadEnvironment(plan, ClosedLoop(math.inf), lambda *_: None)
    events = environment.events.request

    def tell_locust(asked: Asked, sent: Input) -> None:
        events.fire(
            request_type=plan.target.protocol,
            name=sent.name,
            response_time=1000 * (asked.ended - asked.intended),
            response_length=0,
            exception=asked.failure and RuntimeError(str(asked.failure)),
            context={},
        )

    environment.sink = tell_locust
    environment.host = plan.target.url
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
    plan = Plan.model_validate_json(sys.stdin.buffer.readline())
    web_port = sys.argv[1:]
    del sys.argv[1:]  # Locust would take it for an option of its own
    if web_port:
        serve_web(plan, int(*web_port))
        return
    gevent.os.make_nonblocking(sys.stdout.fileno())
    generator = Generator(plan)
    gc.freeze()  # what was imported: looking through it would stop the loop for milliseconds
    generator.run()


if __name__ == "__main__":
    main()
