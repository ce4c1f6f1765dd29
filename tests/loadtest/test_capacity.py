"""`shipway plan`: the simulated queue beside what theory says, and what is made of reports."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from shipway.cli.main import app
from shipway.loadtest.capacity import calibrated, fleet, highest
from shipway.loadtest.errors import NoReplicaKeeps, ReportError
from shipway.loadtest.queueing import Replica, poisson, serve
from shipway.loadtest.report_files import write_report
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.shapes.open import OpenLoop
from tests.loadtest.made import SECONDS, report_of, result_of
from tests.loadtest.replicas import LOGNORMAL, replica


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
        (("--rate", 0, "--slo-p99", "50ms"), "0 is not a valid rate"),
        (("--rate", -5, "--slo-p99", "50ms"), "-5 is not a valid rate"),
        (("--rate", "nan", "--slo-p99", "50ms"), "nan is not a valid rate"),
        (("--rate", "inf", "--slo-p99", "50ms"), "inf is not a valid rate"),
        (("--rate", 10, "--slo-p99", "50"), "for example 50ms or 0.05s"),
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
    assert "Create one with `shipway bench NAME`" in str(result.exception)


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (
            sweep_of(BATCHING, partial="stopped before all loads were measured"),
            "is partial: stopped before all loads were measured",
        ),
        (sweep_of(BATCHING, workers=None), "does not contain the number of workers"),
        (sweep_of(BATCHING, rates=(20,)), "has fewer than 2 open loops"),
        (report_of([], workers=1, batch_size=1), "has no closed loops with 1 client"),
    ],
)
def test_reports_that_tell_too_little_say_what_they_lack(plan, tmp_path, report, said):
    path, _ = write_report(report, tmp_path)
    assert said in str(plan(*ASKED, "--from", path, fails=ReportError).exception)


def test_a_folder_with_none_but_useless_reports_says_why_they_are(plan, tmp_path):
    (reports := tmp_path / "reports").mkdir()
    write_report(sweep_of(BATCHING, partial="stopped"), reports)
    said = str(plan(*ASKED, fails=ReportError).exception)
    assert "no sweep report" in said and "is partial: stopped" in said


def test_a_damaged_histogram_is_told(plan, tmp_path):
    path, _ = write_report(sweep_of(BATCHING), tmp_path)
    content = json.loads(path.read_text())
    content["results"][0]["latency"]["histogram"] = "HISTF"
    path.write_text(json.dumps(content))
    said = str(plan(*ASKED, "--from", path, fails=ReportError).exception)
    assert "latency.histogram: is not a histogram" in said


def test_what_is_no_report_is_told(plan, tmp_path):
    (tmp_path / "notes.json").write_text("not json")
    found = plan(*ASKED, "--from", "notes.json", fails=ReportError).exception
    assert "notes.json is not a valid report of this version of `shipway bench`" in str(found)


def test_a_target_that_no_replica_keeps_is_told_with_its_p99_alone(plan, tmp_path):
    path, _ = write_report(sweep_of(BATCHING), tmp_path)
    result = plan("--rate", 10, "--slo-p99", "5ms", "--from", path, fails=NoReplicaKeeps)
    assert "below 5 ms: m 1.0 on " in str(result.exception)


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
