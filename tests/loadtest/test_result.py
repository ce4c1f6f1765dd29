import numpy as np
import pytest

from shipway.loadtest.load_test import Input, LoadTest, Target
from shipway.loadtest.result import Collector
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.shapes.open import OpenLoop
from shipway.loadtest.sweep import knee, sweep
from shipway.loadtest.ticks import Tick
from tests.loadtest.made import lognormal_ms, rates, result_of


def test_percentiles_are_those_of_the_latencies():
    latencies_ms = lognormal_ms(20, count=20_000, spread=1.0)
    found = result_of(OpenLoop(rate=5000), latencies_ms).latency
    for percentile, value_ms in (
        (50, found.p50_ms),
        (75, found.p75_ms),
        (90, found.p90_ms),
        (95, found.p95_ms),
        (99, found.p99_ms),
        (99.9, found.p99_9_ms),
        (100, found.max_ms),
    ):
        exact = np.percentile(latencies_ms, percentile, method="inverted_cdf")
        assert value_ms == pytest.approx(exact, rel=0.002)
    assert found.count == 20_000
    curve = found.curve()
    assert curve == sorted(curve)
    assert curve[-1][1] == pytest.approx(found.max_ms, rel=0.002)


def tick(at: float, answers=(), errors=(), *, last: bool = False) -> Tick:
    return Tick(
        at=at, answers=list(answers), errors=list(errors), cpu=0.1, busy=0.1, lags_us=[50],
        clients=1, waiting=0, last=last,
    )  # fmt: skip


@pytest.fixture
def collector() -> Collector:
    """Of a load of two seconds."""
    plan = LoadTest(
        target=Target(url="http://127.0.0.1:1/predictions/m"),
        inputs=(Input(name="", content_type="", body=b""),),
        load=OpenLoop(rate=1),
        seconds=2,
    )
    return Collector(plan)


def test_what_was_to_be_sent_within_the_measured_seconds_counts_however_late(collector):
    second_us = 1_000_000
    collector.add(tick(-1, [(-1.5, second_us // 4, 1, None)], [(-1, "http", "503", "T", "m", 7)]))
    collector.add(tick(1, [(-0.5, second_us, 1, None), (0.1, second_us // 2, 1, None)]))
    collector.add(tick(5, [(1.9, 3 * second_us, 1, None)], [(1, "http", "503", "T", "m", 2)], last=True))  # fmt: skip  # noqa: E501
    found = collector.result()
    assert found.latency.count == 2
    assert found.latency.max_ms == pytest.approx(3000, rel=0.002)
    # Two answers arrived in the two seconds: one to the warm-up's, one of its own.
    assert found.rate == 1
    assert found.failed == 2
    assert [each.answers for each in found.timeline] == [2, 0]
    assert [each.errors for each in found.timeline] == [0, 2]
    assert found.timeline[1].p50_ms == 3000
    assert not found.partial and found.seconds == 2


def test_a_load_that_was_cut_short_is_partial_and_as_long_as_it_was(collector):
    collector.add(tick(1.25, [(0.5, 1000, 1000, None)] * 5))
    found = collector.result()
    assert found.partial
    assert found.seconds == 1.25
    assert found.rate == 4


def test_a_busy_or_late_generator_is_the_bottleneck():
    assert not result_of(ClosedLoop(clients=1), lognormal_ms(20)).generator.was_bottleneck
    busy = result_of(ClosedLoop(clients=1), lognormal_ms(20), busy=0.97).generator
    assert busy.was_bottleneck and "97% of the time" in busy.because
    late = result_of(ClosedLoop(clients=1), lognormal_ms(0.02)).generator  # timers were 0.1 ms late
    assert late.was_bottleneck and "late at p99" in late.because


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
