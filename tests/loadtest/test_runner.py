"""The load generator against a real server."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from shipway.engines.ports import free_ports
from shipway.loadtest.errors import GeneratorFailed
from shipway.loadtest.runner import measure
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.shapes.open import OpenLoop
from tests.servers import REPOSITORY, until


def stalling(stall, seconds: float):
    """Watches a load and makes its server stall once, half a second in."""

    def watch(progress) -> None:
        if progress.at > 0.5 and not done:
            stall.write_text(str(seconds))
            done.append(True)

    done: list[bool] = []
    return watch


@pytest.mark.timing
def test_an_open_loop_counts_a_stall_that_a_closed_loop_leaves_out(planned, stall):
    closed = measure(planned(ClosedLoop(clients=1), seconds=3), stalling(stall, 1.5))
    assert closed.latency.max_ms > 1500
    assert closed.latency.p99_ms < 750  # one of hundreds of requests, although half the time
    opened = measure(planned(OpenLoop(rate=50), seconds=3), stalling(stall, 1.5))
    # Of 150 arrivals some 75 met the stall and waited 0.75 seconds on the average.
    assert opened.latency.p75_ms > 350
    assert opened.latency.p99_ms > 1200
    assert 110 <= opened.answered <= 190
    assert opened.rate == pytest.approx(50, rel=0.3)


@pytest.mark.timing
def test_what_was_measured_is_what_the_server_took_and_the_warm_up_is_left_out(planned, stall):
    stall.write_text("1.0")
    result = measure(planned(ClosedLoop(clients=1), "sleep 50", warm_up_s=1.5, seconds=2))
    assert not stall.exists()
    assert result.latency.max_ms < 900
    assert 50 < result.latency.p50_ms < 80
    assert result.latency.p50_ms <= result.latency.p99_ms <= result.latency.max_ms
    assert result.rate == pytest.approx(1000 / result.latency.p50_ms, rel=0.35)
    assert result.service is None
    assert (result.handler_p50_ms, result.handler_p99_ms) == (2.5, 2.5)
    assert len(result.timeline) == 2
    assert not result.partial and not result.errors


@pytest.mark.timing
def test_an_open_loop_tells_waiting_from_service(planned):
    # 20 ms each, 80 a second, one client: requests come faster than they can be sent.
    load = OpenLoop(rate=80, most_clients=1)
    result = measure(planned(load, "sleep 20", seconds=2))
    assert result.service.p50_ms < 45
    assert result.latency.p99_ms > 5 * result.service.p50_ms
    assert result.rate < 55


@pytest.mark.timing  # answers within 300 ms, and none later
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_errors_are_counted_by_kind_and_are_no_answers(server, planned, protocol):
    server.grpc.predict("synthetic", b"hello")  # the first call to TorchServe takes a second
    bodies = ("hello", "broken", "sleep 450")
    result = measure(planned(ClosedLoop(clients=1), *bodies, protocol=protocol, timeout_s=0.3))
    refused, late = sorted(result.errors, key=lambda each: each.kind != protocol)
    assert (refused.kind, refused.status, refused.type) == (protocol, "415", "NotAnImage")
    assert refused.message == "It says 'broken'."
    assert late.kind == "timeout"
    assert abs(refused.count - result.answered) <= 1 and abs(late.count - result.answered) <= 1
    assert sum(each.errors for each in result.timeline) == result.failed
    assert result.latency.max_ms < 300
    assert result.failed_share == pytest.approx(2 / 3, abs=0.2)


def test_nobody_there_is_an_error_and_no_flood(planned):
    url = f"http://127.0.0.1:{free_ports(1)[0]}/predictions/synthetic"
    result = measure(planned(ClosedLoop(clients=2), url=url))
    [error] = result.errors
    assert (error.kind, error.type) == ("connection", "ConnectionRefusedError")
    assert error.count <= 22


@pytest.mark.timing
def test_a_rate_that_the_generator_cannot_reach_is_its_own_fault(planned, server):
    # An answer that costs the server nothing.
    url = f"{server.record.addresses.inference}/ping"
    plan = planned(OpenLoop(rate=20_000), url=url, seconds=1.5, timeout_s=1.0)
    result = measure(plan)
    assert result.generator.was_bottleneck
    assert "busy" in result.generator.because or "late" in result.generator.because


def test_a_generator_that_fails_says_why(planned, monkeypatch):
    monkeypatch.setattr(
        "shipway.loadtest.runner.COMMAND", (sys.executable, "-c", "raise OSError('no')")
    )
    with pytest.raises(GeneratorFailed, match="exit code is 1; its last message: OSError: no"):
        measure(planned(ClosedLoop(clients=1)))


def test_the_generator_ends_when_its_parent_is_killed(planned, tmp_path):
    (tmp_path / "test.json").write_text(
        planned(ClosedLoop(clients=2), seconds=60).model_dump_json()
    )
    code = (
        "import sys; from pathlib import Path; from shipway.loadtest.runner import measure;"
        "from shipway.loadtest.load_test import LoadTest;"
        "measure(LoadTest.read(Path(sys.argv[1]).read_bytes()), lambda _: print('on'))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-u", "-c", code, tmp_path / "test.json"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout.readline() == b"on\n"
    [child] = psutil.Process(parent.pid).children()
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    until(lambda: not child.is_running())
    parent.stdout.close()
