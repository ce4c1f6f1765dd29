"""A simulation of one replica of a model: TorchServe's queue, its batching and its workers.

docs/capacity.md says what it assumes and how well it agrees with servers. Times are milliseconds.
N = requests, in the order of their arrival.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

QUEUE = 100
"""TorchServe's job_queue_size: a request that finds this many waiting is refused."""
REQUESTS = 200_000
"""Simulated for Poisson traffic. The highest rate that keeps a target then differs by 1 to 2%
between seeds."""
SETTLED_AFTER = 2_000
"""Requests that are left out at the start, because the queue starts empty."""


def most_rows(batch_size: int, delay_ms: int) -> int:
    """The most rows in a batch. Without a delay TorchServe takes at most two rows."""
    return batch_size if delay_ms else min(batch_size, 2)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replica:
    """One server. A batch of n rows takes a worker batch_ms + n * row_ms on average."""

    workers: int
    batch_size: int
    delay_ms: int
    """How long the first row of a batch waits for others."""
    batch_ms: float
    row_ms: float
    noise: Floats
    """Factors by which a batch may differ from its average time: equally probable, with mean 1."""
    overhead_ms: float = 0.0
    """Time of each request outside the worker."""

    def mean_ms(self, rows: int) -> float:
        """The average time of a batch."""
        return self.batch_ms + rows * self.row_ms

    @property
    def capacity(self) -> float:
        """Answers a second with full batches."""
        rows = most_rows(self.batch_size, self.delay_ms)
        return 1000 * self.workers * rows / self.mean_ms(rows)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Simulated:
    """The outcome of simulated requests."""

    latency_ms_N: Floats
    refused_N: NDArray[np.bool_]
    """Whether the request found the queue full. The simulation still serves it, in order."""
    busy: float
    """The share of time in which workers computed."""
    mean_rows: float
    """Rows in a batch, on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """A replica under a constant rate of requests, in steady state."""

    rate: float
    p50_ms: float
    p99_ms: float
    refused: float
    """The share of requests that find the queue full."""
    busy: float
    mean_rows: float


def poisson(replica: Replica, rate: float, *, requests: int = REQUESTS, seed: int = 0) -> Steady:
    """A replica under `rate` independent arrivals a second.

    With the same seed, traffic differs between rates only in its pace.
    """
    chance = np.random.default_rng(seed)
    arrivals_N = np.cumsum(chance.standard_exponential(requests)) * (1000 / rate)
    simulated = serve(replica, arrivals_N, chance)
    latency_ms = simulated.latency_ms_N[SETTLED_AFTER:]
    p50_ms, p99_ms = np.percentile(latency_ms, [50, 99], method="inverted_cdf")
    return Steady(
        rate=rate,
        p50_ms=float(p50_ms),
        p99_ms=float(p99_ms),
        refused=float(simulated.refused_N[SETTLED_AFTER:].mean()),
        busy=simulated.busy,
        mean_rows=simulated.mean_rows,
    )


def serve(replica: Replica, arrivals_N: Floats, chance: np.random.Generator) -> Simulated:
    """Simulates requests that arrive at these moments, in ascending order."""
    arrivals = [*arrivals_N.tolist(), math.inf]
    noise = chance.choice(replica.noise, len(arrivals_N)).tolist()
    mean_ms = [replica.mean_ms(rows) for rows in range(replica.batch_size + 1)]
    free_at = [0.0] * replica.workers
    collected_at = 0.0
    first, rows, starts, ends, busy_ms = 0, [], [], [], 0.0
    while first < len(arrivals_N):
        # One worker at a time collects a batch: the first that is free, after the one before it.
        start = max(heapq.heappop(free_at), collected_at, arrivals[first])
        behind, collected_at = _collect(arrivals, first, start, replica)
        took_ms = mean_ms[behind - first] * noise[first]
        heapq.heappush(free_at, collected_at + took_ms)
        rows.append(behind - first)
        starts.append(start)
        ends.append(collected_at + took_ms)
        busy_ms += took_ms
        first = behind
    # A request that arrives while a batch is collected does not wait in the queue.
    taken_N = np.maximum(arrivals_N, np.repeat(starts, rows))
    waiting_N = np.arange(len(arrivals_N)) - np.searchsorted(taken_N, arrivals_N, side="right")
    return Simulated(
        latency_ms_N=np.repeat(ends, rows) - arrivals_N + replica.overhead_ms,
        refused_N=waiting_N >= QUEUE,
        busy=busy_ms / replica.workers / max(ends),
        mean_rows=len(arrivals_N) / len(rows),
    )


def _collect(
    arrivals: Sequence[float], first: int, start: float, replica: Replica
) -> tuple[int, float]:
    """The index after the last request of the batch that starts with `first`, and when it is sent.

    As in TorchServe's Model.pollBatch: each further row may arrive within what is left of the
    delay, which is measured with a clock of whole milliseconds.
    """
    behind, now, left, clock = first + 1, start, replica.delay_ms, int(start)
    while behind - first < replica.batch_size:
        if arrivals[behind] > now + left:
            return behind, now + left
        now = max(now, arrivals[behind])
        behind += 1
        left -= int(now) - clock
        clock = int(now)
        if left <= 0:
            break
    return behind, now
