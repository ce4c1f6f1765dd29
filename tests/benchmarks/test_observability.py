"""What metrics and timings cost: the targets, and the spread that is reported."""

from benchmarks.observability import _quartiles, outcomes


def test_a_percent_of_throughput_and_a_tenth_of_a_millisecond_are_allowed():
    cheap = {"throughput": 0.0089, "p50_ms": 0.088}
    found = outcomes(cheap, {"throughput": 0.0034, "p50_ms": 0.3}, 0.0017)
    assert all(outcome.met for outcome in found.values()) and len(found) == 4
    dear = outcomes({"throughput": 0.011, "p50_ms": 0.11}, {"throughput": 0.02}, 0.02)
    assert not any(outcome.met for outcome in dear.values())


def test_quartiles_are_the_first_and_the_third():
    assert _quartiles([1.0, 2.0, 3.0, 4.0, 5.0], 2) == [1.5, 4.5]
