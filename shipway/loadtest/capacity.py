"""How many replicas a load needs to keep a latency target: a simulation, calibrated with load tests
of one replica. docs/capacity.md says what it assumes and how well it agrees with servers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product, starmap
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from shipway.loadtest.errors import ReportError
from shipway.loadtest.queueing import QUEUE, Replica, Steady, most_rows, poisson, serve
from shipway.loadtest.report import Report
from shipway.loadtest.report_files import read_report
from shipway.loadtest.result import Latency, Result
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.shapes.open import OpenLoop

SLOWER = (0.9, 1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0)
"""Factors to try: how much longer a batch of one row takes in an open loop than with one client."""
SPREADS = (0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0)
"""Exponents to try for the noise that was measured with one client."""
USABLE_SHARE = 0.95
"""Of the capacity. At higher rates the queue grows, and latencies depend on the load's duration."""
FEWEST_LOADS, FEWEST_ANSWERS = 2, 100
ROUGH, FINE, SHORTLIST = 5_000, 40_000, 6
"""How many requests of each load are simulated, repeated if it had fewer: first for every pair of
the factors above, then for the best few. A p99 of 5,000 is still off by several percent."""
SOUND = 0.15
"""How far the simulation may be from a measurement before the user is warned."""
PRECISION = 1.01
"""The search for the highest rate ends when a rate this much higher misses the target."""
LISTED = 3
"""How many unusable reports an error lists."""
LOWEST = 1e-3
"""Of the capacity: the rate of a replica with hardly any requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One of the report's loads, measured and simulated."""

    rate: float
    measured_p50_ms: float
    measured_p99_ms: float
    p50_ms: float
    p99_ms: float

    @property
    def p50_off(self) -> float:
        """How far off the simulated p50 is, as a share of the measured one."""
        return self.p50_ms / self.measured_p50_ms - 1

    @property
    def p99_off(self) -> float:
        """How far off the simulated p99 is, as a share of the measured one."""
        return self.p99_ms / self.measured_p99_ms - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of replica: a server as one report describes it."""

    report: Report
    replica: Replica
    compared: tuple[Compared, ...]

    @property
    def cores(self) -> int | None:
        """Cores of its machine. None if the load came from another machine."""
        local = urlsplit(self.report.subject.url).hostname in ("127.0.0.1", "localhost", "::1")
        return self.report.host.cores if local else None

    @property
    def doubts(self) -> list[str]:
        """Why the report, or the simulation made from it, may be wrong."""
        found = []
        loads = [str(each.load) for each in self.report.results if each.generator.was_bottleneck]
        if loads:
            found.append(
                f"the load generator was the bottleneck under {', '.join(loads)}, so latencies "
                "include its own delays. Measure from another machine or on a quiet one"
            )
        worst = max(self.compared, key=lambda each: abs(math.log1p(each.p99_off)))
        if abs(worst.p99_off) > SOUND:
            found.append(
                f"the simulation is off by {worst.p99_off:+.0%} at {worst.rate:g} requests/s, "
                f"where a p99 of {worst.measured_p99_ms:.1f} ms was measured. Measure on a quiet "
                "machine and for longer (`shipway bench NAME --seconds 60`)"
            )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Enough replicas of one kind for a load."""

    kind: Kind
    replicas: int
    spare: int
    """How many of them may be lost."""
    highest: Steady
    """One replica at the highest rate that keeps the target."""
    whole: Steady
    """One replica while all replicas run."""
    reduced: Steady
    """One replica while the spare ones are lost."""

    @property
    def cores(self) -> int | None:
        """Cores of all replicas; None if they are not known."""
        return None if self.kind.cores is None else self.replicas * self.kind.cores


def newest_of_each(folder: Path) -> list[Path]:
    """The newest reports of a folder, one for each server, protocol, model, setting and inputs.

    Other files and reports without a sweep are left out. Raises ReportError if none is left; it
    lists the last ones with the reason.
    """
    found: dict[tuple[object, ...], tuple[str, Path]] = {}
    unusable = []
    for path in sorted(folder.glob("*.json")):
        try:
            report = read_report(path)
            _Measured(report)
        except ReportError as error:
            unusable.append(str(error))
            continue
        protocol = urlsplit(report.subject.url).scheme
        which = (report.host, report.subject.model_copy(update={"url": ""}), protocol, report.sent)
        found[which] = max(found.get(which, ("", path)), (report.made, path))
    if not found:
        raise ReportError(
            f"{folder} contains no sweep report. Create one with `shipway bench NAME` (server "
            "on this machine) or `make bench` (demo model), or give a report with --from."
            + "".join(f"\n  {each}" for each in unusable[-LISTED:])
        )
    return [path for _, path in found.values()]


def calibrated(report: Report) -> Kind:
    """The kind of replica that a report describes. Raises ReportError if it says too little."""
    measured = _Measured(report)
    every = starmap(measured.replica, product(SLOWER, SPREADS))
    nearest = sorted(every, key=lambda each: _distance(measured.compared_with(each, ROUGH)))
    fits = ((each, measured.compared_with(each, FINE)) for each in nearest[:SHORTLIST])
    replica, compared = min(fits, key=lambda each: _distance(each[1]))
    return Kind(report=report, replica=replica, compared=compared)


def _distance(compared: Sequence[Compared]) -> float:
    """The mean square of the logarithms of simulated over measured percentiles."""
    off = [[each.p50_off, each.p99_off] for each in compared]
    return float(np.mean(np.log1p(off) ** 2))


class _Measured:
    """The part of a report that calibration needs."""

    def __init__(self, report: Report) -> None:
        """Raises ReportError."""
        subject = report.subject
        if not subject.workers or not subject.batch_size:
            raise _too_little(
                report,
                "does not contain the number of workers and the batch settings of the server. "
                "Run `shipway bench NAME` on the server's machine; --url does not record them",
            )
        if report.partial:
            raise _too_little(report, f"is partial: {report.partial}. Measure again")
        self._workers, self._batch_size = subject.workers, subject.batch_size
        self._delay_ms = subject.max_batch_delay_ms or 0
        by_clients = {
            each.load.clients: each
            for each in report.results
            if isinstance(each.load, ClosedLoop) and each.latency
        }
        if len(by_clients) < 2 or 1 not in by_clients:
            raise _too_little(
                report,
                (
                    "has no closed loops with 1 client and with several "
                    "clients. Run `shipway bench NAME` without --clients and "
                    "--rate"
                ),
            )
        self._alone = by_clients[1]
        self._busiest = max(report.results, key=lambda each: each.rate)
        self._loads = [
            (each, each.latency)
            for each in report.results
            if each.latency and self._is_usable(each)
        ]
        if len(self._loads) < FEWEST_LOADS:
            raise _too_little(
                report,
                f"has fewer than {FEWEST_LOADS} open loops (--rate) with {FEWEST_ANSWERS} "
                f"answers, no failures and at most {USABLE_SHARE:.0%} of the "
                f"{self._busiest.rate:.0f} requests/s that the server reached. Run `shipway "
                "bench NAME` without --clients and --rate, which chooses such rates",
            )

    def _is_usable(self, result: Result) -> bool:
        return (
            isinstance(result.load, OpenLoop)
            and result.load.rate <= USABLE_SHARE * self._busiest.rate
            and result.answered >= FEWEST_ANSWERS
            and not result.failed
        )

    def replica(self, slower: float, spread: float) -> Replica:
        """The replica as measured, with the time of a single row times `slower` and its noise
        raised to `spread`.

        The busiest load has full batches, so it shows how long these take.
        """
        took_ms, overhead_ms = self._alone_ms
        noise = (took_ms / np.median(took_ms)) ** spread
        one_ms = min(slower * float(took_ms.mean()), self._full_batch[1])
        rows, rows_ms = self._full_batch
        row_ms = (rows_ms - one_ms) / (rows - 1) if rows > 1 else 0.0
        return Replica(
            workers=self._workers,
            batch_size=self._batch_size,
            delay_ms=self._delay_ms,
            batch_ms=rows_ms - rows * row_ms,
            row_ms=row_ms,
            noise=noise / noise.mean(),
            overhead_ms=overhead_ms,
        )

    @cached_property
    def _alone_ms(self) -> tuple[np.ndarray, float]:
        """Time in the worker of each request of the single client, and the time outside it."""
        assert self._alone.latency
        delay_ms = self._delay_ms if self._batch_size > 1 else 0
        latency_ms = self._alone.latency.all_ms() - delay_ms
        inside_ms = self._alone.handler_p50_ms
        # Without the handler's own time, all of it is taken to be in the worker.
        outside_ms = max(0.0, float(np.median(latency_ms)) - inside_ms) if inside_ms else 0.0
        least_ms = 0.1 * float(np.median(latency_ms))
        return np.maximum(latency_ms - outside_ms, least_ms), outside_ms

    @cached_property
    def _full_batch(self) -> tuple[int, float]:
        """The rows of a batch under the busiest load, and its time in milliseconds."""
        load = self._busiest.load
        under_way = load.clients if isinstance(load, ClosedLoop) else QUEUE
        most = most_rows(self._batch_size, self._delay_ms)
        rows = max(1, min(most, under_way // self._workers))
        return rows, 1000 * self._workers * rows / self._busiest.rate

    def compared_with(self, replica: Replica, requests: int) -> tuple[Compared, ...]:
        """Each load measured and simulated, with `requests` simulated requests."""
        return tuple(_compared(replica, *each, requests) for each in self._loads)


def _too_little(report: Report, what: str) -> ReportError:
    return ReportError(f"The report of {report.title}, made {report.made}, {what}.")


def _compared(replica: Replica, result: Result, latency: Latency, requests: int) -> Compared:
    assert isinstance(result.load, OpenLoop)
    moments = result.load.arrivals(-result.warm_up_s, result.seconds)
    arrivals_ms = 1000 * (np.array([*moments][:requests]) + result.warm_up_s)
    counts = arrivals_ms >= 1000 * result.warm_up_s
    found_ms = [
        serve(replica, arrivals_ms, np.random.default_rng(seed)).latency_ms_N[counts]
        for seed in range(math.ceil(requests / len(arrivals_ms)))
    ]
    p50_ms, p99_ms = np.percentile(np.concatenate(found_ms), [50, 99], method="inverted_cdf")
    return Compared(
        rate=result.load.rate,
        measured_p50_ms=latency.p50_ms,
        measured_p99_ms=latency.p99_ms,
        p50_ms=float(p50_ms),
        p99_ms=float(p99_ms),
    )


def highest(replica: Replica, slo_p99_ms: float) -> Steady | None:
    """The highest rate at which 99% of requests keep the target and none is refused; None if there
    is no such rate."""

    def kept(found: Steady) -> bool:
        return found.p99_ms <= slo_p99_ms and not found.refused

    best = poisson(replica, LOWEST * replica.capacity)
    if not kept(best):
        return None
    failed = replica.capacity
    while failed / best.rate > PRECISION:
        found = poisson(replica, (best.rate + failed) / 2)
        if kept(found):
            best = found
        else:
            failed = found.rate
    return best


def fleet(kind: Kind, rate: float, slo_p99_ms: float, spare: int) -> Fleet | None:
    """Enough replicas for `rate` requests a second, behind a balancer that chooses at random, while
    `spare` of them are lost. None if a replica misses the target even with hardly any requests."""
    best = highest(kind.replica, slo_p99_ms)
    if best is None:
        return None
    needed = math.ceil(rate / best.rate)
    # Poisson traffic that is split at random is Poisson traffic at each replica.
    return Fleet(
        kind=kind,
        replicas=needed + spare,
        spare=spare,
        highest=best,
        whole=poisson(kind.replica, rate / (needed + spare)),
        reduced=poisson(kind.replica, rate / needed),
    )
