"""Replicas to simulate."""

import numpy as np

from shipway.loadtest.queueing import Replica

CONSTANT = np.ones(1)
EXPONENTIAL = -np.log1p(-(np.arange(10_000) + 0.5) / 10_000)
LOGNORMAL = np.random.default_rng(0).lognormal(-0.02, 0.2, 1_000)


def replica(noise: np.ndarray = CONSTANT, **changes) -> Replica:
    """One worker, one row at a time, 10 ms for it."""
    settings = {"workers": 1, "batch_size": 1, "delay_ms": 0, "batch_ms": 10.0, "row_ms": 0.0}
    return Replica(**settings | {"noise": noise / noise.mean()} | changes)
