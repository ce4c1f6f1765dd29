"""The result of one load, and how it is collected from the generator's ticks.

Latency runs from the moment at which a request was to be sent; service time runs from the moment at
which it was sent. In a closed loop they are equal. Latencies and errors count every request that
was to be sent within the measured seconds, however late its answer. The rate counts the answers
that arrived within them. An error is not an answer.
"""

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import field_validator

from shipway.extras import MissingExtra
from shipway.limits import LONGEST_LATENCY_S
from shipway.loadtest.load_test import LoadTest, Record
from shipway.loadtest.shapes import AnyShape
from shipway.loadtest.ticks import Tick

try:
    from hdrh.histogram import HdrHistogram
except ModuleNotFoundError as error:
    raise MissingExtra("A load test", "bench") from error

HIGHEST_US = round(2e6 * LONGEST_LATENCY_S)
"""The longest wait for a free client plus the longest wait for an answer."""
DIGITS = 3
"""Significant digits of a recorded latency."""
BUSIEST = 0.9
"""A generator that is busy for a larger share of the time is itself the bottleneck."""
LATEST = 0.5
"""So is one whose timers are late, at p99, by a larger share of the p99 that it measured."""


class Latency(Record):
    """The distribution of latencies, in milliseconds."""

    count: int
    p50_ms: float
    p75_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p99_9_ms: float
    max_ms: float
    histogram: str
    """Every latency, in microseconds, in HdrHistogram's encoding (V2, compressed, base64)."""

    @field_validator("histogram")
    @classmethod
    def _reads(cls, histogram: str) -> str:
        try:
            HdrHistogram.decode(histogram)
        except Exception as error:  # what it raises for damaged text is not documented
            raise ValueError("is not a histogram in HdrHistogram's encoding") from error
        return histogram

    def all_ms(self) -> np.ndarray:
        """Every latency, ascending, to three digits: an array of shape (count,)."""
        steps = HdrHistogram.decode(self.histogram).get_recorded_iterator()
        counts = {each.value_iterated_to: each.count_added_in_this_iter_step for each in steps}
        return np.repeat(list(counts), list(counts.values())) / 1000

    def curve(self) -> list[tuple[float, float]]:
        """Pairs of a percentile and its milliseconds, ever closer to 100."""
        last = 100 * (1 - 1 / (self.count + 1))
        steps = HdrHistogram.decode(self.histogram).get_percentile_iterator(5)
        return [
            (min(each.percentile_level_iterated_to, last), each.value_iterated_to / 1000)
            for each in steps
        ]


class Errors(Record):
    """The requests that failed in the same way."""

    kind: str
    """http, grpc, timeout or connection; generator where the server is not to blame."""
    status: str
    """The HTTP or gRPC status; empty if no answer came."""
    type: str
    message: str
    """The message of the first of them."""
    count: int

    def __str__(self) -> str:
        return " ".join(each for each in (self.kind, self.status, self.type) if each)


class Second(Record):
    """One second of a load."""

    answers: int
    """Answers that arrived in this second."""
    errors: int
    p50_ms: float | None
    p99_ms: float | None
    """Both are of the requests that were to be sent in this second; None if none was answered."""


class Generator(Record):
    """How loaded the generator itself was while it measured."""

    cpu: float
    """Processor time as a share of one core."""
    busy: float
    """The share of time in which it ran or waited for a core."""
    lag_p50_ms: float
    lag_p99_ms: float
    """How late its timers were."""
    was_bottleneck: bool
    because: str = ""


class Result(Record):
    """What was measured under one load."""

    load: AnyShape
    warm_up_s: float
    seconds: float
    """How long was measured: less than asked for if the result is partial."""
    partial: bool
    rate: float
    """Answers a second."""
    latency: Latency | None
    """None without any answer."""
    service: Latency | None
    """Only for open shapes."""
    handler_p50_ms: float | None
    """Time in the handler, from the Server-Timing header; None if no answer had it."""
    handler_p99_ms: float | None
    errors: tuple[Errors, ...]
    timeline: tuple[Second, ...]
    generator: Generator

    @property
    def answered(self) -> int:
        """How many requests were answered."""
        return self.latency.count if self.latency else 0

    @property
    def failed(self) -> int:
        """How many requests failed."""
        return sum(each.count for each in self.errors)

    @property
    def failed_share(self) -> float:
        """The share of requests that failed, from 0 to 1."""
        requests = self.answered + self.failed
        return self.failed / requests if requests else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The state of a load while it runs."""

    load_test: LoadTest
    at: float
    """Seconds since the end of the warm-up; negative during it."""
    rate: float
    """Answers a second since the last update, as are p50 and p99."""
    p50_ms: float | None
    p99_ms: float | None
    """Both are None without an answer."""
    failed: int
    """Errors so far, without those of the warm-up."""
    cpu: float


class Collector:
    """Makes a Result of a generator's ticks."""

    def __init__(self, load_test: LoadTest) -> None:
        self._load_test = load_test
        self._latency, self._service = _histogram(), _histogram()
        self._by_second: dict[int, array[int]] = {}
        self._handler_ms: array[float] = array("f")
        self._answers_in_time = 0
        self._answers_by_second: Counter[int] = Counter()
        self._errors: Counter[tuple[str, str, str]] = Counter()
        self._messages: dict[tuple[str, str, str], str] = {}
        self._errors_by_second: Counter[int] = Counter()
        self._measured: list[tuple[float, Tick]] = []
        self._last_at = -load_test.warm_up_s
        self.finished = False

    def add(self, tick: Tick) -> Progress:
        """Adds a tick and returns the state of the load."""
        seconds = self._load_test.seconds
        for intended, latency_us, service_us, handler_ms in tick.answers:
            ended = intended + latency_us / 1e6
            self._answers_in_time += 0 <= ended < seconds
            self._answers_by_second[math.floor(ended)] += 1
            if not 0 <= intended < seconds:
                continue
            self._latency.record_value(min(latency_us, HIGHEST_US))
            self._service.record_value(min(service_us, HIGHEST_US))
            self._by_second.setdefault(int(intended), array("L")).append(latency_us)
            if handler_ms is not None:
                self._handler_ms.append(handler_ms)
        for second, kind, status, type_, message, count in tick.errors:
            if 0 <= second < seconds:
                self._errors[kind, status, type_] += count
                self._messages.setdefault((kind, status, type_), message)
                self._errors_by_second[second] += count
        took, self._last_at = tick.at - self._last_at, tick.at
        if 0.5 < tick.at < seconds + 0.5:  # a tick covers the second before it
            self._measured.append((took, tick))
        self.finished = tick.last
        latencies_us = [each[1] for each in tick.answers]
        return Progress(
            load_test=self._load_test,
            at=tick.at,
            rate=len(tick.answers) / took,
            p50_ms=_percentile(50, latencies_us),
            p99_ms=_percentile(99, latencies_us),
            failed=self._errors.total(),
            cpu=tick.cpu,
        )

    def result(self) -> Result:
        """The result of the ticks added so far; partial unless they include the last one."""
        load_test = self._load_test
        # A load whose requests are all answered may end early; it was measured in full.
        seconds = (
            load_test.seconds if self.finished else max(0.0, min(load_test.seconds, self._last_at))
        )
        latency = _summary(self._latency)
        handler_us = [1000 * each for each in self._handler_ms]
        return Result(
            load=load_test.load,
            warm_up_s=load_test.warm_up_s,
            seconds=seconds,
            partial=not self.finished,
            rate=self._answers_in_time / seconds if seconds else 0.0,
            latency=latency,
            service=_summary(self._service) if load_test.load.is_open else None,
            handler_p50_ms=_percentile(50, handler_us),
            handler_p99_ms=_percentile(99, handler_us),
            errors=tuple(
                Errors(
                    kind=kind,
                    status=status,
                    type=type_,
                    message=self._messages[kind, status, type_],
                    count=count,
                )
                for (kind, status, type_), count in self._errors.most_common()
            ),
            timeline=tuple(self._second(at) for at in range(math.ceil(seconds))),
            generator=_generator(self._measured, latency, self._own_failures()),
        )

    def _own_failures(self) -> list[str]:
        return [
            f"{count:,} requests failed by it: {self._messages[which]}"
            for which, count in self._errors.most_common()
            if which[0] == "generator"
        ]

    def _second(self, at: int) -> Second:
        found = self._by_second.get(at, ())
        return Second(
            answers=self._answers_by_second[at],
            errors=self._errors_by_second[at],
            p50_ms=_percentile(50, found),
            p99_ms=_percentile(99, found),
        )


def _histogram() -> HdrHistogram:
    return HdrHistogram(1, HIGHEST_US, DIGITS)


def _summary(histogram: HdrHistogram) -> Latency | None:
    if not histogram.total_count:
        return None
    at = histogram.get_percentile_to_value_dict([50, 75, 90, 95, 99, 99.9])
    return Latency(
        count=histogram.total_count,
        p50_ms=at[50] / 1000,
        p75_ms=at[75] / 1000,
        p90_ms=at[90] / 1000,
        p95_ms=at[95] / 1000,
        p99_ms=at[99] / 1000,
        p99_9_ms=at[99.9] / 1000,
        max_ms=histogram.get_max_value() / 1000,
        histogram=histogram.encode().decode(),
    )


def _percentile(percentile: float, microseconds: Sequence[float]) -> float | None:
    """In milliseconds, one of those observed; None if there are none."""
    if not len(microseconds):
        return None
    return float(np.percentile(microseconds, percentile, method="inverted_cdf")) / 1000


def _generator(
    measured: Sequence[tuple[float, Tick]], latency: Latency | None, failures: Sequence[str]
) -> Generator:
    """`measured` are ticks, each with the seconds that it covers; `failures` are its own."""
    reasons = list(failures)
    if not measured:
        return Generator(
            cpu=0,
            busy=0,
            lag_p50_ms=0,
            lag_p99_ms=0,
            was_bottleneck=bool(reasons),
            because="; ".join(reasons),
        )
    took, ticks = zip(*measured, strict=True)
    lags_us = [lag for each in ticks for lag in each.lags_us]
    busy = float(np.average([each.busy for each in ticks], weights=took))
    late_ms = _percentile(99, lags_us) or 0.0
    if busy > BUSIEST:
        reasons.append(f"it was busy {busy:.0%} of the time (limit: {BUSIEST:.0%})")
    if latency and late_ms > LATEST * latency.p99_ms:
        reasons.append(
            f"its timers were {late_ms:.1f} ms late at p99, {late_ms / latency.p99_ms:.0%} of "
            f"the measured p99 (limit: {LATEST:.0%})"
        )
    return Generator(
        cpu=float(np.average([each.cpu for each in ticks], weights=took)),
        busy=busy,
        lag_p50_ms=_percentile(50, lags_us) or 0.0,
        lag_p99_ms=late_ms,
        was_bottleneck=bool(reasons),
        because="; ".join(reasons),
    )
