"""What a soak calls growth, and what it does not let pass."""

import os

import pytest

from benchmarks.soak import Memory, outcomes
from shipway.loadtest.result import Result
from shipway.loadtest.shapes.open import OpenLoop
from tests.loadtest.made import SECONDS, result_of


def memory(*megabytes: float, settled_after_s: float) -> Memory:
    """A sample a second of one process."""
    found = Memory({"worker": os.getpid()}, settled_after_s)
    found.seconds = list(map(float, range(len(megabytes))))
    found.megabytes["worker"] = list(megabytes)
    return found


def test_what_a_process_takes_before_it_has_settled_is_no_growth():
    warmed_up = memory(*range(100), *[100.0] * 100, settled_after_s=100)
    assert warmed_up.growth("worker") == 0


def test_growth_is_from_the_first_tenth_to_the_last_whatever_one_sample_says():
    leaks = memory(*[100.0] * 50, *[999.0], *[101.0] * 49, *[105.0] * 20, settled_after_s=0)
    assert leaks.growth("worker") == pytest.approx(0.05)


def test_a_process_is_sampled_as_it_is_now():
    own = Memory({"worker": os.getpid()}, 0)
    assert own.growth("worker") is None
    for second in range(2):
        own.take(second)
    assert own.megabytes["worker"][0] > 10
    assert own.growth("worker") == pytest.approx(0, abs=0.5)


def met(result: Result, growth: dict[str, float | None]) -> dict[str, bool]:
    return {name: outcome.met for name, outcome in outcomes(result, growth).items()}


def test_growth_errors_and_what_was_not_observed_miss_their_targets():
    result = result_of(OpenLoop(rate=1), [1.0] * 4)
    assert all(met(result, {"worker": 0.02, "TorchServe": -0.1}).values())
    assert not met(result, {"worker": 0.04})["growth of worker"]
    assert not met(result, {"worker": None})["growth of worker"]
    each_second = {("http", "507", "InternalServerException", ""): 3}
    failed = result_of(OpenLoop(rate=1), [], errors=each_second)
    assert met(failed, {}) == {"answered": False, "errors": False}
    assert outcomes(failed, {})["errors"].reached == 3 * SECONDS
