"""From one client to beyond what the server can do, and where latency turns up on the way."""

from collections.abc import Iterator, Sequence
from math import floor, log10

from benchmarks.plan import Closed, Load, Open
from benchmarks.result import Result

CAPACITY_CLIENTS = 32
"""Enough to keep batches full; far below TorchServe's queue of 100."""
SHARES = (0.2, 0.4, 0.6, 0.75, 0.9, 1.0, 1.2)
"""Of the capacity, as rates of the open loop."""
LOADS = 2 + len(SHARES)
TURNS_UP = 2.0
"""A p99 that never rises to this many times its start has no knee."""
MOST_FAILED = 0.01
"""Of the requests at a knee; beyond, the rate was not served."""


def sweep(results: Sequence[Result]) -> Iterator[Load]:
    """LOADS loads for a server that nothing is known of: its latency alone, its capacity, then
    rates up to beyond that. `results` has those of the loads given so far."""
    yield Closed(clients=1)
    yield Closed(clients=CAPACITY_CLIENTS)
    capacity = results[-1].rate
    for share in SHARES:
        yield Open(rate=_two_digits(share * capacity))


def _two_digits(value: float) -> float:
    unit = 10.0 ** (floor(log10(value)) - 1)
    return round(round(value / unit) * unit, 6)


def knee(results: Sequence[Result]) -> int | None:
    """The place of the open loop after which p99 turns up: of the points (rate, logarithm of p99),
    both axes scaled to 1, the one furthest below the chord from the first to the last. That is
    Kneedle (Satopää and others, 2011), on the scales of the chart.

    None where there are fewer than four rates, or p99 does not turn up.
    """
    points = [
        (each.load.rate, log10(each.latency.p99_ms), each.failed_share, place)
        for place, each in enumerate(results)
        if isinstance(each.load, Open) and each.latency and not each.partial
    ]
    if len(points) < 4:
        return None
    rates, p99s, *_ = zip(*points, strict=True)
    height, width = max(p99s) - min(p99s), max(rates) - min(rates)
    if height < log10(TURNS_UP) or not width:
        return None
    below, place = max(
        ((rate - min(rates)) / width - (p99 - min(p99s)) / height, place)
        for rate, p99, failed, place in points
        if failed <= MOST_FAILED
    )
    return place if below > 0 else None
