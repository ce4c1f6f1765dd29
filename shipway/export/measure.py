"""Latency of programs side by side, in turns, so that a noisy moment falls on all alike."""

import statistics
import time
from collections.abc import Mapping

from shipway.artifact.certificate import Latency
from shipway.runtime.backends.base import Program
from shipway.runtime.batches import Arrays

TURNS = 8
TURNS_FOR_ALL = 2
"""After these, only programs that may still be the fastest go on."""
CLOSE = 1.25
"""A program may still be the fastest while its best quarter is within this of the best median."""
RUNS_A_TURN = 4
ENOUGH_MS = 4000
"""Of runs of one program at one shape: long runs differ less from each other."""
WARM_UPS = 3
"""TorchScript optimizes itself in its first runs; none of these count."""
_SETTLE_SECONDS = 0.005  # OpenMP's threads spin for a while after the last program's run


def race(
    programs: Mapping[str, Program], batch: Arrays, always: tuple[str, ...] = ()
) -> dict[str, Latency]:
    """The latency of every program on one batch; those named in `always` run every turn."""
    taken: dict[str, list[float]] = {name: [] for name in programs}
    running = list(programs)
    for program in programs.values():
        for _ in range(WARM_UPS):
            program.run(batch)
    for turn in range(TURNS):
        if turn == TURNS_FOR_ALL:
            best = min(statistics.median(each) for each in taken.values())
            running = [
                name
                for name in running
                if name in always or _quartiles(taken[name])[0] <= best * CLOSE
            ]
        for name in running:
            if turn >= TURNS_FOR_ALL and sum(taken[name]) > ENOUGH_MS:
                continue
            time.sleep(_SETTLE_SECONDS)
            programs[name].run(batch)  # brings its weights back into the caches
            for _ in range(RUNS_A_TURN):
                start = time.perf_counter()
                programs[name].run(batch)
                taken[name].append(1000 * (time.perf_counter() - start))
    return {name: _latency(each) for name, each in taken.items()}


def _latency(taken_ms: list[float]) -> Latency:
    low, high = _quartiles(taken_ms)
    return Latency(
        median_ms=round(statistics.median(taken_ms), 3),
        low_ms=round(low, 3),
        high_ms=round(high, 3),
        runs=len(taken_ms),
    )


def _quartiles(taken_ms: list[float]) -> tuple[float, float]:
    low, _, high = statistics.quantiles(taken_ms, n=4)
    return low, high


def best_batch_size(latency_ms: Mapping[int, float], gain: float = 0.05) -> int:
    """The smallest batch that handles rows nearly as fast as any: within `gain` of the best rate.

    Larger ones would make every request wait for more neighbours and win nothing.
    """
    rate = {size: size / each for size, each in latency_ms.items()}
    best = max(rate.values())
    return min(size for size, each in rate.items() if each >= best * (1 - gain))
