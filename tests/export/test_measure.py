"""Latencies are measured in turns, disturbed runs are left out, and the batch size follows."""

import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from shipway.export import measure
from shipway.export.measure import (
    COLD_CACHES,
    ENOUGH_MS,
    NARROW,
    RUNS_A_TURN,
    TURNS,
    TURNS_FOR_ALL,
    WARM_UPS,
    Timings,
    best_batch_size,
    paired_speedup,
    race,
    without_waits_ms,
)
from shipway.export.pauses import Usage

NOTHING = (np.zeros(1),)


class Sleeping:
    """A program that takes its time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def run(self, inputs):
        time.sleep(self.seconds)
        return [np.zeros(1)]


class Machine:
    """A clock that is told what each run took, as if the machine were busy or not."""

    def __init__(self, steal: Iterator[float] | None = None) -> None:
        self.usage: Usage
        self._steal = steal or itertools.repeat(0.0)

    def begin_turn(self) -> None:
        pass

    def time(self, run: Callable[[], object]) -> Usage:
        run()
        return self.usage

    def steal_share(self) -> float:
        return next(self._steal)


class Simulated:
    """A program that needs `ms` of one core, and waits for it as `waits_ms` says."""

    def __init__(
        self, machine: Machine, ms: float, waits_ms: Iterator[float], *, counted: bool = True
    ) -> None:
        self._machine, self._ms, self._waits_ms, self._counted = machine, ms, waits_ms, counted

    def run(self, inputs):
        wait_ms = next(self._waits_ms)
        self._machine.usage = Usage(
            wall_ms=self._ms + wait_ms,
            processor_ms=self._ms,
            waited_ms=wait_ms if self._counted else None,
            paused_ms=wait_ms if self._counted else None,
        )
        return [np.zeros(1)]


def never() -> Iterator[float]:
    return itertools.repeat(0.0)


def often(ms: float) -> Iterator[float]:
    """Three runs of four wait."""
    return itertools.cycle([ms, ms, 0.0, ms])


def test_a_clearly_slower_program_drops_out_unless_it_is_the_reference():
    programs = {"fast": Sleeping(0.001), "slow": Sleeping(0.05), "eager": Sleeping(0.05)}
    found = race(programs, NOTHING, "eager")
    assert found["fast"].runs >= TURNS * RUNS_A_TURN
    assert found["eager"].runs >= TURNS * RUNS_A_TURN
    assert found["slow"].runs == TURNS_FOR_ALL * RUNS_A_TURN
    assert found["slow"].median_ms > found["fast"].median_ms >= 1
    assert all(each.low_ms <= each.median_ms <= each.high_ms for each in found.values())
    assert all(each.median_low_ms <= each.median_ms for each in found.values())
    assert found["eager"].speedup is None
    assert found["fast"].speedup.low <= found["fast"].speedup.value <= found["fast"].speedup.high


def test_disturbed_runs_do_not_count():
    machine = Machine()
    programs = {
        "eager": Simulated(machine, 10.0, often(50.0)),
        "onnx": Simulated(machine, 5.0, never()),
    }
    found = race(programs, NOTHING, "eager", threads=2, clock=machine)
    assert (found["eager"].median_ms, found["eager"].basis) == (10.0, "quiet runs")
    assert found["eager"].quiet_runs == found["eager"].runs / 4
    assert found["onnx"].speedup.value == 2.0, "not the 12 times that the wall clock says"
    assert found["onnx"].speedup.basis == "quiet runs"


def test_a_run_may_wait_for_a_twentieth_of_its_time():
    timings = Timings(2)
    for paused in (0.4, 0.6):
        usage = Usage(wall_ms=10.0, processor_ms=9.0, waited_ms=paused, paused_ms=paused)
        timings.add(0, usage, 0.0)
    timings.add(0, Usage(wall_ms=10.0, processor_ms=9.0, waited_ms=0.0, paused_ms=0.0), 0.2)
    assert len(timings.quiet) == 1, "the second waited too long, the third had a core stolen"


def test_one_thread_that_is_never_alone_is_counted_by_its_processor_time():
    machine = Machine()
    programs = {
        "eager": Simulated(machine, 10.0, itertools.cycle([70.0, 30.0, 90.0])),
        "onnx": Simulated(machine, 4.0, itertools.cycle([2.0, 11.0])),
    }
    found = race(programs, NOTHING, "eager", threads=1, clock=machine)
    assert (found["eager"].median_ms, found["onnx"].median_ms) == (10.0, 4.0)
    assert found["eager"].quiet_runs == 0 and found["eager"].basis == "processor time"
    over = found["onnx"].speedup
    assert (over.value, over.basis) == (2.5, "processor time")
    # Each pause leaves other data in the caches.
    assert over.low == pytest.approx(2.5 / COLD_CACHES, abs=0.001)
    assert over.high == pytest.approx(2.5 * COLD_CACHES, abs=0.001)
    assert found["onnx"].median_low_ms == pytest.approx(4.0 / COLD_CACHES, abs=0.001)
    assert found["onnx"].median_high_ms == 4.0


def test_several_threads_that_are_never_alone_are_said_to_be_disturbed():
    machine = Machine()
    found = race({"a": Simulated(machine, 1.0, itertools.repeat(9.0))}, NOTHING, clock=machine)
    assert (found["a"].basis, found["a"].sound, found["a"].median_ms) == ("all runs", False, 10.0)


def test_a_machine_whose_host_takes_its_cores_is_never_quiet():
    machine = Machine(steal=itertools.repeat(0.3))
    found = race({"a": Simulated(machine, 1.0, never())}, NOTHING, threads=1, clock=machine)
    assert (found["a"].basis, found["a"].quiet_runs) == ("all runs", 0)


@pytest.mark.parametrize("threads", [1, 2])
def test_without_counts_of_waits_missing_processor_time_tells(threads):
    machine = Machine()
    program = Simulated(machine, 10.0, itertools.cycle([0.0, 20.0]), counted=False)
    found = race({"a": program}, NOTHING, threads=threads, clock=machine)
    assert (found["a"].median_ms, found["a"].basis) == (10.0, "quiet runs")
    assert found["a"].quiet_runs == found["a"].runs / 2


def test_turns_are_added_until_the_median_is_narrow_enough(monkeypatch):
    monkeypatch.setattr(measure, "MORE_AT_MOST", 50.0)
    spread = np.random.default_rng(0).lognormal(0.0, 0.12, 5000)
    machine = Machine()

    class Varying(Simulated):
        def run(self, inputs):
            self._ms = next(times)
            return super().run(inputs)

    times = iter(10 * spread)
    found = race({"a": Varying(machine, 0, never())}, NOTHING, threads=2, clock=machine)
    assert found["a"].runs > TURNS * RUNS_A_TURN
    assert (
        found["a"].median_high_ms - found["a"].median_low_ms
        <= 2 * NARROW * found["a"].median_ms + 0.002
    )


def test_added_turns_end_at_the_time_limit(monkeypatch):
    monkeypatch.setattr(measure, "MORE_AT_MOST_SECONDS", 0.1)
    machine = Machine()
    programs = {"a": Simulated(machine, 1.0, itertools.repeat(9.0))}
    start = time.perf_counter()
    found = race(programs, NOTHING, clock=machine)
    assert time.perf_counter() - start < 3
    assert found["a"].runs > TURNS * RUNS_A_TURN


def test_a_program_that_takes_long_runs_once_a_turn_and_still_has_an_interval(monkeypatch):
    monkeypatch.setattr(measure, "ENOUGH_MS", ENOUGH_MS / 100)
    monkeypatch.setattr(measure, "MORE_AT_MOST", 0.0)
    found = race({"long": Sleeping(0.005), "longer": Sleeping(0.03)}, NOTHING, "longer")
    assert found["longer"].runs < TURNS * RUNS_A_TURN / 2 + WARM_UPS
    assert found["longer"].median_low_ms is not None


def test_a_drift_of_the_whole_machine_leaves_the_ratio_as_it_is():
    eager, onnx = Timings(2), Timings(2)
    for turn in range(8):
        slowdown = 1 + turn / 4
        for timings, ms in ((eager, 12.0), (onnx, 4.0)):
            usage = Usage(wall_ms=ms * slowdown, processor_ms=ms, waited_ms=0.0, paused_ms=0.0)
            timings.add(turn, usage, 0.0)
    found = paired_speedup(eager, onnx)
    assert (found.value, found.low, found.high, found.turns) == (3.0, 3.0, 3.0, 8)
    assert onnx.interval_ms == (4.0, 11.0)


def test_too_few_common_turns_have_the_interval_of_both_medians():
    eager, onnx = Timings(2), Timings(2)
    for run in range(8):
        for timings, ms in ((eager, 10.0 + run), (onnx, 5.0)):
            usage = Usage(wall_ms=ms, processor_ms=ms, waited_ms=0.0, paused_ms=0.0)
            timings.add(run // 4, usage, 0.0)
    found = paired_speedup(eager, onnx)
    assert found.turns == 2 and (found.low, found.high) == (2.0, 3.4)


def test_what_a_program_sleeps_is_its_own():
    slept = Usage(wall_ms=10.0, processor_ms=3.0, waited_ms=2.0, paused_ms=2.0)
    assert without_waits_ms(slept) == 8.0
    unknown = Usage(wall_ms=10.0, processor_ms=3.0, waited_ms=None, paused_ms=None)
    assert without_waits_ms(unknown) == 3.0


def test_the_smallest_batch_within_five_percent_of_the_best_rate_wins():
    assert best_batch_size({1: 1.0, 2: 1.8, 4: 3.1, 8: 6.1}) == 4
    assert best_batch_size({1: 1.0, 2: 1.8, 4: 3.1, 8: 6.1}, gain=0.0) == 8
    assert best_batch_size({1: 1.0, 2: 2.5}) == 1
