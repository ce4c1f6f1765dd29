"""Speedups over eager, as numbers and in words."""

import pytest

from shipway.artifact.certificate import Candidate, Latency, Speedup
from shipway.export.speedup import factor, in_words, speedup


def latency(ms: float, spread: float | None = None, over: Speedup | None = None) -> Latency:
    return Latency(
        median_ms=ms,
        low_ms=ms,
        high_ms=ms,
        runs=32,
        median_low_ms=None if spread is None else ms - spread,
        median_high_ms=None if spread is None else ms + spread,
        speedup=over,
    )


def candidate(by_threads: dict[int, Latency]) -> Candidate:
    return Candidate(
        verdict="passed",
        passed=True,
        format="onnx",
        runtime="onnxruntime",
        precision="fp32",
        latency={"1": by_threads},
    )


PAIRED = Speedup(value=4.9, low=4.7, high=5.2, turns=8, basis="quiet runs")


def test_it_is_that_of_common_turns_if_both_are_best_at_the_same_number_of_threads():
    ours = candidate({1: latency(3.0), 2: latency(2.0, over=PAIRED)})
    assert speedup(ours, {"1": {2: latency(10.0)}}, "1") == PAIRED


def test_otherwise_it_is_the_quotient_of_the_medians_with_the_intervals_of_both():
    ours = candidate({1: latency(2.0, 0.5), 2: latency(3.0, over=PAIRED)})
    found = speedup(ours, {"1": {2: latency(10.0, 2.0)}}, "1")
    assert (found.value, found.low, found.high, found.turns) == (5.0, 3.2, 8.0, 0)


def test_there_is_none_without_eager_or_at_a_shape_that_was_not_measured():
    assert speedup(candidate({1: latency(2.0)}), {}, "1") is None
    assert speedup(candidate({1: latency(2.0)}), {"8": {1: latency(2.0)}}, "8") is None


def test_an_older_certificate_has_no_interval():
    found = speedup(candidate({1: latency(2.0)}), {"1": {1: latency(10.0)}}, "1")
    assert in_words(found) == "5.0× speedup over eager PyTorch"


@pytest.mark.parametrize(
    ("update", "figure"),
    [
        ({}, "4.9×"),
        ({"basis": "processor time"}, "at least 4.7×"),
        ({"basis": "processor time", "low": 0.8, "high": 1.3}, "0.8 to 1.3×"),
        ({"basis": "all runs"}, "4.7 to 5.2×"),
        ({"basis": "all runs", "low": None, "high": None}, "roughly 5×"),
    ],
)
def test_a_speedup_that_was_disturbed_is_a_bound(update, figure):
    assert factor(PAIRED.model_copy(update=update)) == figure


def test_the_interval_follows_in_words():
    assert in_words(PAIRED) == "4.9× speedup over eager PyTorch, 95% interval 4.7 to 5.2"
    disturbed = PAIRED.model_copy(update={"basis": "processor time"})
    assert in_words(disturbed) == "at least 4.7× speedup over eager PyTorch on one thread"
