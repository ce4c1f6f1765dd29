"""The simulated queue beside what theory says."""

import math

import numpy as np
import pytest

from shipway.loadtest.queueing import QUEUE, Replica, poisson, serve
from tests.loadtest.replicas import EXPONENTIAL, LOGNORMAL, replica


def latencies_ms(of: Replica, *arrivals_ms: float) -> list[float]:
    chance = np.random.default_rng(0)
    return serve(of, np.array(arrivals_ms), chance).latency_ms_N.round(6).tolist()


def mean_wait_ms(of: Replica, rate: float) -> float:
    chance = np.random.default_rng(1)
    arrivals = np.cumsum(chance.exponential(1000 / rate, 200_000))
    return float(serve(of, arrivals, chance).latency_ms_N.mean()) - of.batch_ms


@pytest.mark.parametrize("rate", [30, 60, 80])
def test_with_exponential_times_latencies_are_those_of_m_m_1(rate):
    found = poisson(replica(EXPONENTIAL), rate)
    for share, simulated_ms in ((0.5, found.p50_ms), (0.99, found.p99_ms)):
        assert simulated_ms == pytest.approx(-1000 * math.log(1 - share) / (100 - rate), rel=0.05)
    assert found.busy == pytest.approx(rate / 100, rel=0.02)


@pytest.mark.parametrize("rate", [30, 60, 80])
def test_with_constant_times_waits_are_those_of_m_d_1(rate):
    busy = rate / 100
    assert mean_wait_ms(replica(), rate) == pytest.approx(10 * busy / (2 * (1 - busy)), rel=0.05)


def test_with_three_workers_waits_are_those_of_m_m_3():
    load = 2.4
    queued = load**3 / math.factorial(3) / (1 - load / 3)
    erlang_c = queued / (queued + sum(load**n / math.factorial(n) for n in range(3)))
    found_ms = mean_wait_ms(replica(EXPONENTIAL, workers=3), 1000 * load / 10)
    assert found_ms == pytest.approx(erlang_c * 10 / (3 - load), rel=0.05)


def test_a_lone_row_waits_for_company_and_no_longer():
    assert latencies_ms(replica(batch_size=4, delay_ms=5), 100.0) == [15.0]
    assert latencies_ms(replica(batch_size=4, delay_ms=0), 100.0) == [10.0]
    assert latencies_ms(replica(batch_size=4, delay_ms=5, overhead_ms=2.0), 100.0) == [17.0]


def test_a_full_batch_does_not_wait():
    assert latencies_ms(replica(batch_size=2, delay_ms=50), 100.0, 101.0) == [11.0, 10.0]


def test_rows_add_to_what_a_batch_takes():
    of = replica(batch_size=3, delay_ms=1, batch_ms=4.0, row_ms=2.0)
    # The first is sent alone at 1 and done at 7; then the others, which fill a batch.
    assert latencies_ms(of, 0.0, 3.0, 4.0, 5.0) == [7.0, 14.0, 13.0, 12.0]


def test_the_delay_is_counted_in_whole_milliseconds():
    of = replica(batch_size=4, delay_ms=1)
    # At 0.5 none of the delay has passed by that clock; at 1.2 all of it has.
    assert latencies_ms(of, 0.0, 0.5, 1.2, 1.3) == [11.2, 10.7, 10.0, 20.9]


def test_without_a_delay_batches_are_of_two_whatever_waits():
    of = replica(batch_size=4, delay_ms=0)
    assert latencies_ms(of, 0.0, 1.0, 2.0, 3.0, 4.0) == [10.0, 19.0, 18.0, 27.0, 26.0]
    assert of.capacity == 200


def test_one_worker_gathers_at_a_time():
    of = replica(batch_size=2, delay_ms=5, workers=2)
    # Not each worker a row of its own; and the second worker waits until the first has gathered.
    assert latencies_ms(of, 0.0, 3.0, 3.5) == [13.0, 10.0, 15.0]


def test_requests_that_find_the_queue_full_are_told():
    at_once = np.arange(QUEUE + 20) * 1e-6
    served = serve(replica(), at_once, np.random.default_rng(0))
    # The first is taken at once; as many as the queue holds wait.
    assert served.refused_N.tolist() == [False] * (QUEUE + 1) + [True] * 19
    assert not poisson(replica(), 80).refused
    assert poisson(replica(), 110, requests=20_000).refused > 0.1


def test_traffic_dealt_out_at_random_is_poisson_traffic_to_each():
    of = replica(LOGNORMAL, batch_size=4, delay_ms=1, batch_ms=6.0, row_ms=4.0)
    chance = np.random.default_rng(2)
    arrivals = np.cumsum(chance.exponential(1000 / 400, 400_000))
    to = chance.integers(4, size=len(arrivals))
    together = np.concatenate(
        [serve(of, arrivals[to == each], chance).latency_ms_N for each in range(4)]
    )
    alone = poisson(of, 100)
    assert np.percentile(together, 50) == pytest.approx(alone.p50_ms, rel=0.02)
    assert np.percentile(together, 99) == pytest.approx(alone.p99_ms, rel=0.05)
