"""`shipway plan`: the simulated queue beside what theory says, and what is made of reports."""

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from shipway.cli.main import app
from shipway.loadtest.capacity import calibrated, fleet, highest
from shipway.loadtest.errors import NoReplicaKeeps, ReportError
from shipway.loadtest.queueing import QUEUE, Replica, poisson, serve
from shipway.loadtest.report_files import write_report
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.shapes.open import OpenLoop
from tests.loadtest.made import SECONDS, report_of, result_of

CONSTANT = np.ones(1)
EXPONENTIAL = -np.log1p(-(np.arange(10_000) + 0.5) / 10_000)
LOGNORMAL = np.random.default_rng(0).lognormal(-0.02, 0.2, 1_000)


def replica(noise: np.ndarray = CONSTANT, **changes) -> Replica:
    """One worker, one row at a time, 10 ms for it."""
    settings = {"workers": 1, "batch_size": 1, "delay_ms": 0, "batch_ms": 10.0, "row_ms": 0.0}
    return Replica(**settings | {"noise": noise / noise.mean()} | changes)


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


def sweep_of(of: Replica, *, rates=(20, 40, 60, 80), partial: str = "", **subject):
    """What `shipway bench` would report of such a server, with as much overhead as none."""
    alone_ms = of.delay_ms + of.mean_ms(1) * LOGNORMAL
    results = [
        result_of(ClosedLoop(clients=1), alone_ms[: int(1000 * SECONDS / alone_ms.mean())]),
        result_of(ClosedLoop(clients=32), np.full(int(SECONDS * of.capacity), 1.0)),
    ]
    for rate in rates:
        load = OpenLoop(rate=rate)
        arrivals_ms = 1000 * (1 + np.array([*load.arrivals(-1.0, SECONDS)]))
        served = serve(of, arrivals_ms, np.random.default_rng(rate))
        results.append(result_of(load, served.latency_ms_N[arrivals_ms >= 1000]))
    told = {"workers": of.workers, "batch_size": of.batch_size, "max_batch_delay_ms": of.delay_ms}
    return report_of(results, partial, **told | subject)


BATCHING = replica(LOGNORMAL, batch_size=4, delay_ms=1, batch_ms=20.0, row_ms=5.0)


@pytest.fixture(scope="module")
def kind():
    return calibrated(sweep_of(BATCHING))


@pytest.fixture(scope="module")
def thousand(kind):
    """Enough for a thousand requests a second, 99% of them within 100 ms."""
    return fleet(kind, 1_000.0, 100.0, spare=1)


def test_a_replica_is_recovered_from_its_report(kind, thousand):
    assert all(abs(each.p50_off) < 0.1 for each in kind.compared)
    # Of 80 to 320 requests in four seconds one or three are beyond p99.
    assert all(abs(each.p99_off) < 0.3 for each in kind.compared)
    assert thousand.highest.rate == pytest.approx(highest(BATCHING, 100.0).rate, rel=0.1)


def test_there_are_just_enough_replicas_with_the_spare_one_lost(kind, thousand):
    kept = thousand.replicas - 1
    assert (thousand.reduced.rate, thousand.whole.rate) == (1_000 / kept, 1_000 / (kept + 1))
    assert thousand.whole.p99_ms < thousand.reduced.p99_ms < 102
    assert poisson(kind.replica, 1_000 / (kept - 1)).p99_ms > 100


def test_a_million_requests_a_second_take_as_many_more_replicas(kind, thousand):
    million = fleet(kind, 1e6, 100.0, spare=3)
    assert million.replicas - 3 == pytest.approx(1e6 / thousand.highest.rate, rel=1e-4)
    assert million.reduced.rate == pytest.approx(thousand.highest.rate, rel=1e-3)


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """The command, in a folder with nothing in it but what a test puts there."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, fails: type[Exception] | None = None):
        result = CliRunner().invoke(app, ["plan", *map(str, arguments)])
        if fails:
            assert isinstance(result.exception, fails), result.output + repr(result.exception)
        return result

    return run


ASKED = ("--rate", 1000, "--slo-p99", "100ms")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rate", 0, "--slo-p99", "50ms"), "0 is no rate"),
        (("--rate", -5, "--slo-p99", "50ms"), "-5 is no rate"),
        (("--rate", "nan", "--slo-p99", "50ms"), "nan is no rate"),
        (("--rate", "inf", "--slo-p99", "50ms"), "inf is no rate"),
        (("--rate", 10, "--slo-p99", "50"), "Write 50ms, or 0.05s"),
        (("--rate", 10), "--slo-p99"),
        ((*ASKED, "--spare", -1), "--spare"),
    ],
)
def test_nonsense_is_told_before_any_report_is_read(plan, arguments, said):
    result = plan(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())


def test_a_folder_without_reports_says_what_makes_one(plan):
    result = plan(*ASKED, fails=ReportError)
    assert "`shipway bench NAME` makes one" in str(result.exception)


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (sweep_of(BATCHING, partial="stopped in the middle"), "is partial: stopped in the middle"),
        (sweep_of(BATCHING, workers=None), "does not say how many workers"),
        (sweep_of(BATCHING, rates=(20,)), "has fewer than 2 open loops"),
        (report_of([], workers=1, batch_size=1), "lacks the closed loops of a sweep"),
    ],
)
def test_reports_that_tell_too_little_say_what_they_lack(plan, tmp_path, report, said):
    path, _ = write_report(report, tmp_path)
    assert said in str(plan(*ASKED, "--from", path, fails=ReportError).exception)


def test_a_folder_with_none_but_useless_reports_says_why_they_are(plan, tmp_path):
    (reports := tmp_path / "reports").mkdir()
    write_report(sweep_of(BATCHING, partial="stopped"), reports)
    said = str(plan(*ASKED, fails=ReportError).exception)
    assert "no report of a sweep" in said and "is partial: stopped" in said


def test_a_damaged_histogram_is_told(plan, tmp_path):
    path, _ = write_report(sweep_of(BATCHING), tmp_path)
    content = json.loads(path.read_text())
    content["results"][0]["latency"]["histogram"] = "HISTF"
    path.write_text(json.dumps(content))
    said = str(plan(*ASKED, "--from", path, fails=ReportError).exception)
    assert "latency.histogram: is no histogram" in said


def test_what_is_no_report_is_told(plan, tmp_path):
    (tmp_path / "notes.json").write_text("not json")
    found = plan(*ASKED, "--from", "notes.json", fails=ReportError).exception
    assert "notes.json is no report of `shipway bench`" in str(found)


def test_a_target_that_no_replica_keeps_is_told_with_its_p99_alone(plan, tmp_path):
    path, _ = write_report(sweep_of(BATCHING), tmp_path)
    result = plan("--rate", 10, "--slo-p99", "5ms", "--from", path, fails=NoReplicaKeeps)
    assert "below 5 ms, even if it is hardly asked: m 1.0 on " in str(result.exception)


def test_the_newest_report_of_each_kind_is_planned_with_the_smallest_fleet_first(plan, tmp_path):
    (reports := tmp_path / "reports").mkdir()
    slow = sweep_of(replica(LOGNORMAL, batch_ms=25.0), rates=(30, 35), model="slow")
    for report in (
        sweep_of(BATCHING, workers=None),  # from elsewhere: passed over
        slow,
        sweep_of(BATCHING, rates=(5,)).model_copy(update={"made": "2026-01-02T00:00:00+00:00"}),
        sweep_of(BATCHING, url="http://127.0.0.1:2/predictions/m").model_copy(
            update={"made": "2026-01-01T00:00:00+00:00"}
        ),
    ):
        write_report(report, reports)
    (reports / "other.json").write_text("{}")
    result = plan(*ASKED, "--json")
    assert result.exit_code == 0, result.output
    first, second = json.loads(result.stdout)["fleets"]
    assert first["subject"]["model"] == "m" and first["measured"].startswith("2026-01-01")
    assert second["subject"]["model"] == "slow" and first["cores"] < second["cores"]
    assert first["cores"] == first["replicas"] * first["host"]["cores"]
