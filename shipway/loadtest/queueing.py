"""One replica of a model, simulated: TorchServe's queue, how it gathers batches, its workers.

What the simulation assumes, and how well it agrees with servers: docs/capacity.md. Moments and
lengths are milliseconds. N = requests, in the order of their arrival.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

QUEUE = 100
"""TorchServe's job_queue_size: a request that finds so many waiting is refused."""
REQUESTS = 200_000
"""Of Poisson traffic. With another seed the highest rate that keeps a target differs by 1 to 2%."""
SETTLED_AFTER = 2_000
"""Requests that are left out, for the queue starts empty."""


def most_rows(batch_size: int, delay_ms: int) -> int:
    """Of a batch. Without a delay TorchServe takes the first row that waits and one more."""
    return batch_size if delay_ms else min(batch_size, 2)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replica:
    """One server. Its runs of n rows take a worker batch_ms + n * row_ms on the average."""

    workers: int
    batch_size: int
    delay_ms: int
    """How long the first row of a batch waits for company."""
    batch_ms: float
    row_ms: float
    noise: Floats
    """What a run may take, by its average; all equally probable, 1 on the average."""
    overhead_ms: float = 0.0
    """Of each request, while no worker is busy with it."""

    def mean_ms(self, rows: int) -> float:
        return self.batch_ms + rows * self.row_ms

    @property
    def capacity(self) -> float:
        """Answers a second when batches are full."""
        rows = most_rows(self.batch_size, self.delay_ms)
        return 1000 * self.workers * rows / self.mean_ms(rows)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Served:
    """What became of some requests."""

    latency_ms_N: Floats
    refused_N: NDArray[np.bool_]
    """Whether it found the queue full. It is served all the same here, after those before it."""
    busy: float
    """The share of time in which the workers ran."""
    mean_rows: float
    """Of a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """A replica under so many requests a second for long."""

    rate: float
    p50_ms: float
    p99_ms: float
    refused: float
    """The share of requests that find the queue full."""
    busy: float
    mean_rows: float


def poisson(replica: Replica, rate: float, *, requests: int = REQUESTS, seed: int = 0) -> Steady:
    """Under `rate` independent arrivals a second. One seed gives all rates the same traffic, but
    for its pace."""
    chance = np.random.default_rng(seed)
    arrivals_N = np.cumsum(chance.standard_exponential(requests)) * (1000 / rate)
    served = serve(replica, arrivals_N, chance)
    latency_ms = served.latency_ms_N[SETTLED_AFTER:]
    p50_ms, p99_ms = np.percentile(latency_ms, [50, 99], method="inverted_cdf")
    return Steady(
        rate=rate,
        p50_ms=float(p50_ms),
        p99_ms=float(p99_ms),
        refused=float(served.refused_N[SETTLED_AFTER:].mean()),
        busy=served.busy,
        mean_rows=served.mean_rows,
    )


def serve(replica: Replica, arrivals_N: Floats, chance: np.random.Generator) -> Served:
    """Requests that arrive at these moments, which ascend."""
    arrivals = [*arrivals_N.tolist(), math.inf]
    noise = chance.choice(replica.noise, len(arrivals_N)).tolist()
    mean_ms = [replica.mean_ms(rows) for rows in range(replica.batch_size + 1)]
    free_at = [0.0] * replica.workers
    gathered_at = 0.0
    first, rows, starts, ends, busy_ms = 0, [], [], [], 0.0
    while first < len(arrivals_N):
        # One worker at a time gathers: the first that is free, once the one before it has done.
        start = max(heapq.heappop(free_at), gathered_at, arrivals[first])
        behind, gathered_at = _gather(arrivals, first, start, replica)
        took_ms = mean_ms[behind - first] * noise[first]
        heapq.heappush(free_at, gathered_at + took_ms)
        rows.append(behind - first)
        starts.append(start)
        ends.append(gathered_at + took_ms)
        busy_ms += took_ms
        first = behind
    # Who arrives while a batch is gathered does not wait in the queue.
    taken_N = np.maximum(arrivals_N, np.repeat(starts, rows))
    waiting_N = np.arange(len(arrivals_N)) - np.searchsorted(taken_N, arrivals_N, side="right")
    return Served(
        latency_ms_N=np.repeat(ends, rows) - arrivals_N + replica.overhead_ms,
        refused_N=waiting_N >= QUEUE,
        busy=busy_ms / replica.workers / max(ends),
        mean_rows=len(arrivals_N) / len(rows),
    )


def _gather(
    arrivals: Sequence[float], first: int, start: float, replica: Replica
) -> tuple[int, float]:
    """The request behind the batch that `first` begins, and when the batch is sent.

    As Model.pollBatch does it: each further row may take what is left of the delay to come, and
    what is left is counted by a clock of whole milliseconds.
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
