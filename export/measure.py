"""Latency of programs side by side, in turns, so that a noisy moment falls on all alike."""

import statistics
import time
from collections.abc import Mapping

import numpy as np

from shipway.runtime.program import Program

TURNS = 6
RUNS_A_TURN = 4
_SETTLE_SECONDS = 0.005  # OpenMP's threads spin for a while after the last program's run


def latencies_ms(
    programs: Mapping[str, Program], rows: np.ndarray, batch_sizes: tuple[int, ...]
) -> dict[str, dict[int, float]]:
    """Median milliseconds of one run, by program and batch size."""
    medians: dict[str, dict[int, float]] = {name: {} for name in programs}
    for size in batch_sizes:
        batch = np.ascontiguousarray(np.resize(rows, (size, *rows.shape[1:])))
        taken: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(TURNS):
            for name, program in programs.items():
                time.sleep(_SETTLE_SECONDS)
                program.run([batch])  # brings its weights back into the caches
                for _ in range(RUNS_A_TURN):
                    start = time.perf_counter()
                    program.run([batch])
                    taken[name].append(1000 * (time.perf_counter() - start))
        for name, each in taken.items():
            medians[name][size] = round(statistics.median(each), 3)
    return medians


def best_batch_size(latency_ms: Mapping[int, float], gain: float = 0.05) -> int:
    """The smallest batch that handles rows nearly as fast as any: within `gain` of the best rate.

    Larger ones would make every request wait for more neighbours and win nothing.
    """
    rate = {size: size / each for size, each in latency_ms.items()}
    best = max(rate.values())
    return min(size for size, each in rate.items() if each >= best * (1 - gain))
