import numpy as np
import pytest

from shipway.loadtest.load_test import Input, LoadTest, Target
from shipway.loadtest.result import Collector
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.shapes.open import OpenLoop
from shipway.loadtest.ticks import Tick
from tests.loadtest.made import SECONDS, lognormal_ms, result_of


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


def test_a_generator_whose_own_requests_failed_is_the_bottleneck():
    errors = {("generator", "", "EMFILE", "too few files"): 3, ("http", "503", "Full", "full"): 2}
    generator = result_of(OpenLoop(rate=25.0), [10.0] * 100, errors=errors).generator
    assert generator.was_bottleneck
    assert generator.because == f"{3 * SECONDS} requests failed by it: too few files"
