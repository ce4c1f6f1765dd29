"""The generator's process, spoken to as the runner does."""

import socket
import subprocess
import time
from typing import Any

import pytest

from shipway.loadtest.load_test import Input, LoadTest, Target
from shipway.loadtest.runner import COMMAND
from shipway.loadtest.shapes.base import LoadShape
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.shapes.open import OpenLoop
from shipway.loadtest.ticks import Tick
from tests.loadtest.http_server import noting_server


def load_test(url: str, load: LoadShape, **changes: Any) -> LoadTest:
    fields: dict[str, Any] = {"warm_up_s": 0.5, "seconds": 1.5, "timeout_s": 1.0}
    return LoadTest(
        target=Target(url=url),
        inputs=(Input(name="x", content_type="text/plain", body=b"x"),),
        load=load,
        **fields | changes,
    )


@pytest.fixture
def generator():
    with subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        yield process
        process.kill()


def test_ticks_come_once_a_second_and_the_last_one_says_so(generator):
    with noting_server() as server:
        generator.stdin.write(load_test(server.url, ClosedLoop(clients=2)).line())
        generator.stdin.flush()
        ticks = [Tick.read(line) for line in generator.stdout]
    assert [tick.last for tick in ticks] == [False] * (len(ticks) - 1) + [True]
    assert ticks[0].at == pytest.approx(0.5, abs=0.3)  # a second after its start at -0.5
    assert {tick.clients for tick in ticks[:-1]} <= {1, 2}
    answers = [answer for tick in ticks for answer in tick.answers]
    assert len(answers) == len(server.moments)
    assert min(answers)[0] < 0 < max(answers)[0] < 1.5
    assert all(latency_us >= service_us > 0 for _, latency_us, service_us, _ in answers)
    assert all(0 <= tick.busy <= 1.5 and tick.lags_us for tick in ticks[:-1])


def test_what_nobody_answers_counts_as_errors_of_the_second_it_was_due(generator):
    # It accepts connections and says nothing.
    with socket.create_server(("127.0.0.1", 0), backlog=200) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/predictions/m"
        sent = load_test(url, OpenLoop(rate=20, most_clients=2), timeout_s=0.4)
        generator.stdin.write(sent.line())
        generator.stdin.flush()
        ticks = [Tick.read(line) for line in generator.stdout]
    errors = [error for tick in ticks for error in tick.errors]
    assert {error[1] for error in errors} == {"timeout"}
    assert sum(error[-1] for error in errors) == len(list(sent.load.arrivals(-0.5, 1.5)))
    assert not any(tick.answers for tick in ticks)


def test_it_ends_when_its_input_closes(generator):
    with noting_server() as server:
        generator.stdin.write(load_test(server.url, ClosedLoop(clients=1), seconds=60).line())
        generator.stdin.flush()
        assert generator.stdout.readline()
        start = time.monotonic()
        generator.stdin.close()
        assert not Tick.read(generator.stdout.readlines()[-1]).last
        assert generator.wait(30) == 0
    assert time.monotonic() - start < 20


def test_a_line_that_is_no_load_test_ends_it_with_an_error(generator):
    _, errors = generator.communicate(b"{}\n", timeout=60)
    assert generator.returncode == 1 and b"validation error" in errors
