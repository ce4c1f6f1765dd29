"""The loads of a sweep, and the knee that is found in their results."""

from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.shapes.open import OpenLoop
from shipway.loadtest.sweep import knee, sweep
from tests.loadtest.made import lognormal_ms, rates, result_of


def test_the_knee_is_where_latency_turns_up():
    results = rates({20: 10, 40: 10, 60: 11, 80: 13, 100: 18, 110: 80, 120: 700})
    assert results[knee(results)].load.rate == 100
    results.insert(0, result_of(ClosedLoop(clients=1), lognormal_ms(9)))
    assert results[knee(results)].load.rate == 100


def test_a_noisy_moment_at_a_low_rate_is_no_knee():
    results = rates({20: 10, 40: 60, 60: 11, 80: 13, 100: 18, 110: 80, 120: 700})
    assert results[knee(results)].load.rate == 100


def test_a_flat_curve_and_a_short_one_have_no_knee():
    assert knee(rates({20: 10, 40: 10, 60: 11, 80: 12, 100: 13})) is None
    assert knee(rates({20: 10, 40: 20, 60: 700})) is None


def test_a_rate_that_is_not_served_is_no_knee():
    results = rates({20: 10, 40: 10, 60: 11, 80: 13, 120: 700})
    refused = {("http", "503", "ServiceUnavailableException", "full"): 20}
    results[3] = result_of(OpenLoop(rate=80), lognormal_ms(13, count=320), errors=refused)
    assert results[knee(results)].load.rate == 60


def test_a_sweep_goes_on_until_the_server_cannot_keep_up():
    results = []
    for load in sweep(results):
        capacity = 150.0  # a second; 32 clients got less
        offered = load.rate if isinstance(load, OpenLoop) else 100.0
        kept = result_of(load, lognormal_ms(10, count=int(4 * offered)))
        results.append(kept.model_copy(update={"rate": min(offered, capacity)}))
    loads = [each.load for each in results]
    assert loads[:2] == [ClosedLoop(clients=1), ClosedLoop(clients=32)]
    offered = [each.rate for each in loads[2:]]
    assert offered == sorted(offered)
    assert offered[0] == 20 and offered[-2] <= 150 < offered[-1]
