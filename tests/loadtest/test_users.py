"""The clients of a load test, in a process that Locust has patched."""

import json
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

PREPARED = """
import json, sys, time
from shipway.loadtest.load_test import Input, LoadTest, Target
from shipway.loadtest.schedule import OnDemand
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.users import LoadEnvironment, _handler_ms
import gevent
from gevent.pywsgi import WSGIServer

def application(environ, start_response):
    body = environ["wsgi.input"].read()
    seen.append((body.decode(), environ.get("HTTP_X_TOKEN"), environ["CONTENT_TYPE"]))
    statuses = {"refuse": "415 Unsupported Media Type", "odd": "500 Odd", "expired": "401 No"}
    status = statuses.get(body.decode(), "200 OK")
    gevent.sleep(0.5 if body == b"slow" else 0.0)
    start_response(status, [("Server-Timing", "decode;dur=1, total;dur=2.5")])
    named = b'{"code": 415, "type": "NotAnImage", "message": "no image"}'
    expired = b'{"code": 401, "type": "InvalidKeyException", "message": "wrong token"}'
    return [{b"refuse": named, b"expired": expired}.get(body, b"x")]

seen, exchanges = [], []
server = WSGIServer(("127.0.0.1", 0), application, log=None)
server.start()

def run(*bodies, url=None, seconds=0.3, timeout_s=0.2):
    load_test = LoadTest(
        target=Target(url=url or f"http://127.0.0.1:{server.server_port}/predictions/m"),
        headers={"x-token": "secret"},
        inputs=[Input(name=b, content_type="text/plain", body=b.encode()) for b in bodies],
        load=ClosedLoop(clients=1),
        timeout_s=timeout_s,
    )
    start = time.monotonic()
    schedule = OnDemand(load_test.load, start, start + seconds)
    environment = LoadEnvironment(load_test, schedule, lambda e, i: exchanges.append((e, i)))
    runner = environment.create_local_runner()
    runner.spawn_users({environment.user.__name__: 1})
    runner.user_greenlets.join()
    return environment
"""


def run(code: str):
    """What the code leaves in `result`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{PREPARED}\n{code}\nprint(json.dumps(result))"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_client_sends_its_inputs_in_turn_with_the_headers():
    seen, handler_ms, under_way = run("""
environment = run("a", "b")
result = seen[:4], [e.handler_ms for e, _ in exchanges[:4]], len(environment.under_way)
""")
    assert seen == [[body, "secret", "text/plain"] for body in "abab"]
    assert handler_ms == [2.5] * 4 and under_way == 0


def test_a_failure_says_what_the_answer_named():
    failures = run("""
run("refuse", "odd", "slow")
result = [[e.failure.kind, e.failure.status, e.failure.type] for e, _ in exchanges[:3]]
""")
    assert failures[0] == ["http", "415", "NotAnImage"]
    assert failures[1][:2] == ["http", "500"]
    assert failures[2][0] == "timeout"


def test_a_client_that_cannot_connect_does_not_spin():
    kinds = run("""
server.stop()
run("a", url=f"http://127.0.0.1:{server.server_port}/predictions/m", seconds=0.5)
result = [e.failure.kind for e, _ in exchanges]
""")
    assert set(kinds) == {"connection"} and len(kinds) <= 6


def test_what_fails_by_the_generator_itself_is_told_from_the_servers_errors():
    failures = run("""
import resource
before = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))  # none but the standard ones
run("a", seconds=0.5)
resource.setrlimit(resource.RLIMIT_NOFILE, before)
run("expired")
result = [[e.failure.kind, e.failure.status, e.failure.type] for e, _ in exchanges]
""")
    assert failures[0] == ["generator", "", "EMFILE"]
    assert failures[-1] == ["generator", "401", "InvalidKeyException"]


@pytest.mark.parametrize(
    ("header", "milliseconds"),
    [
        ("decode;dur=1, total;dur=2.5", 2.5),
        ("total;dur=3", 3.0),
        ("decode;dur=1", None),
        (None, None),
    ],
)
def test_the_handlers_time_is_read_from_server_timing(header, milliseconds):
    assert run(f"result = _handler_ms({header!r})") == milliseconds
