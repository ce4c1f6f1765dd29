"""From one client to beyond what the server can do, and where latency turns up on the way."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import floor, log10

from shipway.loadtest.result import Result
from shipway.loadtest.shapes.base import LoadShape
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.shapes.open import OpenLoop

CAPACITY_CLIENTS = 32
"""Enough to keep batches full; far below TorchServe's queue of 100."""
SHARES = (0.2, 0.4, 0.6, 0.75, 0.9, 1.0, 1.2)
"""Of the capacity, as rates of the open loop."""
LOADS = 2 + len(SHARES)
"""Of a sweep, unless the server does better than its capacity promised."""
MOST_MORE, STEP = 3, 1.25
KEPT_UP = 0.95
"""Of the arrivals answered while they came."""
TURNS_UP = 2.0
"""A p99 that never rises to this many times its start has no knee."""
MOST_FAILED = 0.01
"""Of the requests at a knee; beyond, the rate was not served."""


def sweep(results: Sequence[Result]) -> Iterator[LoadShape]:
    """Loads for a server that nothing is known of: its latency alone, its capacity, then rates up
    to one that it cannot keep up with. `results` has those of the loads given so far."""
    yield ClosedLoop(clients=1)
    yield ClosedLoop(clients=CAPACITY_CLIENTS)
    capacity = results[-1].rate
    for share in SHARES:
        yield OpenLoop(rate=_two_digits(share * capacity))
    # An open loop may fill batches better than so many clients do.
    for _ in range(MOST_MORE):
        if not _kept_up(results[-1]):
            return
        capacity *= STEP
        yield OpenLoop(rate=_two_digits(SHARES[-1] * capacity))


def _kept_up(result: Result) -> bool:
    asked = (result.answered + result.failed) / result.seconds
    return result.rate >= KEPT_UP * asked


def _two_digits(value: float) -> float:
    unit = 10.0 ** (floor(log10(value)) - 1)
    return round(round(value / unit) * unit, 6)


def knee(results: Sequence[Result]) -> int | None:
    """The place of the open loop after which p99 turns up: of the points (rate, logarithm of p99),
    both axes scaled to 1, the one furthest below the chord from the first to the last. That is
    Kneedle (Satopää and others, 2011), on the chart's scales. A p99 above that of a higher rate is
    chance, for noise only adds to it, and is lowered to that.

    None where there are fewer than four rates, or p99 does not turn up.
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
