"""The check of `shipway plan`: its targets, and nginx's configuration."""

from benchmarks.capacity_check import in_words, outcomes
from shipway.loadtest.capacity import Compared


def test_a_prediction_may_be_off_by_15_percent_either_way():
    checked = [
        {"servers": 1, "off": -0.06},
        {"servers": 2, "off": 0.15},
        {"servers": 4, "off": -0.2},
    ]
    found = outcomes(checked)
    assert [outcome.met for outcome in found.values()] == [True, True, False]
    assert found["prediction_off_4_servers"].reached == 0.2


def test_a_load_is_told_with_what_was_predicted():
    compared = Compared(
        rate=50.0, measured_p50_ms=20.0, measured_p99_ms=90.0, p50_ms=21.0, p99_ms=95.0
    )
    assert in_words(compared) == "p50 20.0 ms (21.0 predicted), p99 90.0 ms (95.0)"
