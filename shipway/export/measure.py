"""Measures the latency of programs in turns, so that other load on the host affects all of them."""

import statistics
import time
from collections.abc import Mapping

from shipway.artifact.certificate import Latency
from shipway.runtime.backends.base import Program
from shipway.runtime.batches import Arrays

TURNS = 8
TURNS_FOR_ALL = 2
"""After these turns, only programs that may still be the fastest continue."""
CLOSE = 1.25
"""A program may still be the fastest if its first quartile is within this factor of the best
median."""
RUNS_A_TURN = 4
ENOUGH_MS = 4000
"""A program that ran this long at one shape is measured enough: long runs vary less."""
WARM_UPS = 3
"""Runs before the measurement: TorchScript optimizes itself in its first runs."""
_SETTLE_SECONDS = 0.005  # OpenMP's threads spin for a while after the last run


def race(
    programs: Mapping[str, Program], batch: Arrays, always: tuple[str, ...] = ()
) -> dict[str, Latency]:
    """The latency in ms of every program on one batch. Those in `always` run in every turn."""
    times_by_name: dict[str, list[float]] = {name: [] for name in programs}
    running = list(programs)
    for program in programs.values():
        for _ in range(WARM_UPS):
            program.run(batch)
    for turn in range(TURNS):
        if turn == TURNS_FOR_ALL:
            best = min(statistics.median(each) for each in times_by_name.values())
            running = [
                name
                for name in running
                if name in always or _quartiles(times_by_name[name])[0] <= best * CLOSE
            ]
        for name in running:
            if turn >= TURNS_FOR_ALL and sum(times_by_name[name]) > ENOUGH_MS:
                continue
            time.sleep(_SETTLE_SECONDS)
            programs[name].run(batch)  # brings its weights back into the caches
            for _ in range(RUNS_A_TURN):
                start = time.perf_counter()
                programs[name].run(batch)
                times_by_name[name].append(1000 * (time.perf_counter() - start))
    return {name: _latency(each) for name, each in times_by_name.items()}


def _latency(times_ms: list[float]) -> Latency:
    low, high = _quartiles(times_ms)
    return Latency(
        median_ms=round(statistics.median(times_ms), 3),
        low_ms=round(low, 3),
        high_ms=round(high, 3),
        runs=len(times_ms),
    )


def _quartiles(times_ms: list[float]) -> tuple[float, float]:
    low, _, high = statistics.quantiles(times_ms, n=4)
    return low, high


def best_batch_size(latency_ms: Mapping[int, float], gain: float = 0.05) -> int:
    """The smallest batch size whose rate of rows is within `gain` of the best rate.

    `latency_ms` is by batch size. Larger batches would make requests wait longer for no gain.
    """
    rate = {size: size / milliseconds for size, milliseconds in latency_ms.items()}
    best = max(rate.values())
    return min(size for size in rate if rate[size] >= best * (1 - gain))
