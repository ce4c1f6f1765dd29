"""The plain Locust file, as Locust's users run it, against a real server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import REPOSITORY, build_mar, running_server

LOCUSTFILE = REPOSITORY / "benchmarks/locustfile.py"
ECHO = """
class Echo:
    def initialize(self, context):
        pass

    def handle(self, rows, context):
        return [{"bytes": len(row.get("body") or b"")} for row in rows]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def host(folder):
    """A server whose state is in `folder`/.shipway, with the model `echo`; its HTTP address."""
    mar = build_mar(folder / "mars", "echo", "1.0", ECHO)
    with running_server(folder) as server:
        (server.model_store / mar.name).write_bytes(mar.read_bytes())
        server.management.register(
            mar.name, name="echo", version="1.0", batch_size=1, max_batch_delay_ms=0, workers=1
        )
        # The first answer takes seconds on a busy machine.
        server.inference.explain("echo", b"x", content_type="text/plain")
        yield server.record.addresses.inference


def locust(folder: Path, host: str, **variables: str) -> tuple[int, dict, str]:
    """The exit code, the statistics of the requests and the error output of `locust`."""
    done = subprocess.run(
        [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", host]
        + ["--headless", "-u", "4", "-r", "4", "-t", "8s", "--json"],
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    [statistics] = json.loads(done.stdout) or pytest.fail(done.stderr)
    return done.returncode, statistics, done.stderr


def test_it_sends_the_photos_with_the_token_of_the_server_that_runs_here(folder, host):
    code, statistics, errors = locust(folder, host, MODEL="echo")
    assert code == 0, errors
    assert statistics["name"] == "/predictions/echo" and statistics["method"] == "POST"
    assert statistics["num_requests"] > 4 and statistics["num_failures"] == 0


def test_a_file_of_the_users_can_be_sent_instead(folder, host):
    (folder / "row.json").write_text('{"a": 1}')
    code, statistics, errors = locust(folder, host, MODEL="echo", INPUT="row.json")
    assert code == 0, errors
    assert statistics["num_requests"] > 4 and statistics["num_failures"] == 0


def test_a_wrong_token_shows_as_failures(folder, host):
    code, statistics, _ = locust(folder, host, MODEL="echo", TOKEN="wrong")
    assert code == 1
    assert statistics["num_failures"] == statistics["num_requests"] > 0
