"""The loads of a sweep, from one client to more than the server can answer, and the knee."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import floor, log10

from shipway.loadtest.result import Result
from shipway.loadtest.shapes.base import LoadShape
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.shapes.open import OpenLoop

CAPACITY_CLIENTS = 32
"""Enough clients to fill batches, and far fewer than TorchServe's queue of 100 holds."""
SHARES = (0.2, 0.4, 0.6, 0.75, 0.9, 1.0, 1.2)
"""The rates of the open loops, as shares of the capacity."""
LOADS = 2 + len(SHARES)
"""How many loads a sweep has, unless the server answers more than its capacity promised."""
MORE_LOADS, STEP = 3, 1.25
"""How many higher rates are added at most, and by what factor each is higher."""
KEPT_UP = 0.95
"""The share of arrivals that must be answered in time for the server to keep up."""
TURNS_UP = 2.0
"""Without a rise of p99 by this factor there is no knee."""
MOST_FAILED = 0.01
"""The share of requests that may fail at a knee."""


def sweep(results: Sequence[Result]) -> Iterator[LoadShape]:
    """Loads for a server about which nothing is known: one client, then many to find its capacity,
    then rates up to one that it cannot keep up with.

    The caller appends the result of each load to `results` before it takes the next load.
    """
    yield ClosedLoop(clients=1)
    yield ClosedLoop(clients=CAPACITY_CLIENTS)
    capacity = results[-1].rate
    for share in SHARES:
        yield OpenLoop(rate=_two_digits(share * capacity))
    # An open loop may fill batches better than the clients did.
    for _ in range(MORE_LOADS):
        if not _kept_up(results[-1]):
            return
        capacity *= STEP
        yield OpenLoop(rate=_two_digits(SHARES[-1] * capacity))


def _kept_up(result: Result) -> bool:
    offered = (result.answered + result.failed) / result.seconds
    return result.rate >= KEPT_UP * offered


def _two_digits(value: float) -> float:
    unit = 10.0 ** (floor(log10(value)) - 1)
    return round(round(value / unit) * unit, 6)


def knee(results: Sequence[Result]) -> int | None:
    """The index of the result after which p99 rises steeply.

    It is the point (rate, logarithm of p99), with both axes scaled to 1, that lies furthest below
    the line from the first point to the last: Kneedle (Satopää and others, 2011), on the scales of
    the chart. Noise only adds to a p99, so one that is above the p99 of a higher rate is lowered to
    it. None if there are fewer than four rates or p99 does not rise.
    """
    points = sorted(
        (rate, place)
        for place, each in enumerate(results)
        if (rate := each.load.offered_rate()) and each.latency and not each.partial
    )
    if len(points) < 4:
        return None
    rates = [rate for rate, _ in points]
    downwards = accumulate((_log_p99(results[place]) for _, place in reversed(points)), min)
    p99s = list(downwards)[::-1]
    height, width = p99s[-1] - p99s[0], rates[-1] - rates[0]
    if height < log10(TURNS_UP) or not width:
        return None
    below, place = max(
        ((rate - rates[0]) / width - (p99 - p99s[0]) / height, place)
        for (rate, place), p99 in zip(points, p99s, strict=True)
        if results[place].failed_share <= MOST_FAILED
    )
    return place if below > 0 else None


def _log_p99(result: Result) -> float:
    assert result.latency
    return log10(result.latency.p99_ms)
