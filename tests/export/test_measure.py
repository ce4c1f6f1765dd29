"""Latencies are measured in turns, and the batch size follows from them."""

import time

import numpy as np

from shipway.export.measure import RUNS_A_TURN, TURNS, TURNS_FOR_ALL, best_batch_size, race


class Sleeping:
    """A program that takes its time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def run(self, inputs):
        time.sleep(self.seconds)
        return [np.zeros(1)]


def test_a_clearly_slower_program_drops_out_unless_it_must_always_run():
    programs = {"fast": Sleeping(0.001), "slow": Sleeping(0.05), "eager": Sleeping(0.05)}
    found = race(programs, (np.zeros(1),), always=("eager",))
    assert found["fast"].runs == found["eager"].runs == TURNS * RUNS_A_TURN
    assert found["slow"].runs == TURNS_FOR_ALL * RUNS_A_TURN
    assert found["slow"].median_ms > found["fast"].median_ms >= 1
    assert all(each.low_ms <= each.median_ms <= each.high_ms for each in found.values())


def test_the_smallest_batch_within_five_percent_of_the_best_rate_wins():
    assert best_batch_size({1: 1.0, 2: 1.8, 4: 3.1, 8: 6.1}) == 4
    assert best_batch_size({1: 1.0, 2: 1.8, 4: 3.1, 8: 6.1}, gain=0.0) == 8
    assert best_batch_size({1: 1.0, 2: 2.5}) == 1
