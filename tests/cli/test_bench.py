"""`shipway bench` against a real server: its report, bad input, Ctrl-C, Locust's page."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from typer.testing import CliRunner

from shipway.cli.main import app
from shipway.engines.errors import ModelNotFound, NoServer, VersionNotFound
from shipway.engines.ports import free_ports
from shipway.errors import ShipwayError
from shipway.loadtest.errors import NoInput, NotReady, ReportError
from shipway.loadtest.report_files import read_report
from tests.servers import REPOSITORY, SHIPWAY, until

BENCH = (*SHIPWAY, "bench")


@pytest.fixture(scope="module")
def server(synthetic_server):
    return synthetic_server


@pytest.fixture
def bench(server, tmp_path):
    """The command on the test's server; reports go to a folder of their own."""

    def run(*arguments: object, fails: type[ShipwayError] | None = None):
        given = ["bench", "--out", tmp_path / "reports", *arguments]
        result = CliRunner().invoke(
            app, [*map(str, given)], env={"SHIPWAY_STATE": str(server.state.path)}
        )
        if fails:
            assert isinstance(result.exception, fails), result.output + repr(result.exception)
        return result

    return run


@pytest.fixture
def hello(tmp_path):
    path = tmp_path / "hello.txt"
    path.write_text("hello")
    return path


@pytest.fixture
def token(server) -> str:
    return server.tokens.get("inference")


def test_a_run_leaves_a_report_and_prints_where(bench, hello, tmp_path):
    result = bench(
        "synthetic", "--input", hello, "--rate", 40, "--seconds", 1, "--warm-up", 0.2, "--json"
    )
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    [path] = (tmp_path / "reports").glob("synthetic-1.0-*.json")
    report = read_report(path)
    assert json.loads(path.read_text()) == printed
    assert report.subject.workers == 1 and report.subject.version == "1.0"
    assert report.results[0].load.rate == 40 and report.results[0].answered > 10
    assert report.sent.names == ("hello.txt",)
    # Its loads again, over gRPC, with both told apart.
    result = bench("synthetic", "--grpc", "--input", hello, "--compare", path, "--seconds", 1)
    assert result.exit_code == 0, result.output
    assert "40 requests/s" in result.stdout
    page = Path(re.search(r"report (\S+\.html)", result.stdout)[1])
    assert "Compared with earlier reports" in page.read_text()


def test_a_token_is_in_no_report(bench, server, token, hello, tmp_path):
    url = f"{server.record.addresses.inference}/predictions/synthetic"
    given = ("--token", token, "--header", f"x-secret: {token}", "--input", hello)
    result = bench("--url", url, *given, "--clients", 1, "--seconds", 1, "--warm-up", 0)
    assert result.exit_code == 0, result.output
    written = [path.read_text() for path in (tmp_path / "reports").iterdir()]
    assert len(written) == 2 and not any(token in each for each in [*written, result.output])


def test_bad_input_is_told_before_any_load(bench, server, token, hello, tmp_path, monkeypatch):
    # A load would end with this error in place of the one that is expected.
    generator = (sys.executable, "-c", "raise OSError('a load was started')")
    monkeypatch.setattr("shipway.loadtest.runner.COMMAND", generator)
    addresses = server.record.addresses
    http, grpc = addresses.inference, addresses.grpc_inference
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    (tmp_path / "broken.txt").write_text("broken")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()

    def says(pattern: str, *arguments: object, fails: type[ShipwayError]) -> None:
        error = bench(*arguments, "--input", hello, fails=fails).exception
        assert re.search(pattern, str(error)), str(error)

    for url in (f"http://{nobody}/predictions/synthetic", f"grpc://{nobody}/synthetic"):
        says(f"Nothing answers at {nobody}.*is its \\w+ port", "--url", url, fails=NotReady)
    says(
        "did not send a valid HTTP response",
        "--url",
        f"http://{addresses.grpc_management}/predictions/x",
        fails=NotReady,
    )
    # The front's port for HTTP speaks HTTP/2 too.
    says(
        "refuses the token.*use its inference port",
        "--url",
        f"grpc://{http[7:]}/synthetic",
        fails=NotReady,
    )
    for url in (f"{http}/predictions/synthetic", f"grpc://{grpc}/synthetic"):
        says("refuses the token", "--url", url, "--token", "wrong", fails=NotReady)
    for url in (f"{http}/predictions/other", f"grpc://{grpc}/other"):
        says("has no model other", "--url", url, "--token", token, fails=NotReady)
    management = f"{addresses.management}/predictions/synthetic"
    says("use its inference port", "--url", management, "--token", token, fails=NotReady)
    metrics = f"{addresses.metrics}/predictions/synthetic"
    says("Use the server.s inference address", "--url", metrics, fails=NotReady)
    says(
        "Model 'other' is not registered.*Registered models: synthetic",
        "other",
        fails=ModelNotFound,
    )
    says(
        "no version 9. Registered versions: 1.0", "synthetic", "--version", 9, fails=VersionNotFound
    )
    says("No server is running", "synthetic", "--state", tmp_path / "none", fails=NoServer)
    says("refuses broken.txt.*NotAnImage", "synthetic", "--input", tmp_path / "broken.txt",
         fails=NoInput)  # fmt: skip
    says("cannot be written", "synthetic", "--out", tmp_path / "file" / "in", fails=ReportError)
    says("cannot be read", "synthetic", "--compare", tmp_path / "none.json", fails=ReportError)
    error = bench("synthetic", "--input", tmp_path / "empty", fails=NoInput).exception
    assert "There are no files in" in str(error)
    error = bench("synthetic", fails=NoInput).exception
    assert "does not report its task" in str(error)
    assert not list((tmp_path / "reports").iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("synthetic", "--url", "http://127.0.0.1:1/predictions/synthetic"),
        ("--url", "127.0.0.1:8080"),
        ("--url", "http://127.0.0.1:abc/predictions/m"),
        ("--url", "http://127.0.0.1:99999/predictions/m"),
        ("--url", "http://127.0.0.1:1/predictions/m", "--grpc"),
        ("synthetic", "--clients", "0"),
        ("synthetic", "--rate", "-1"),
        ("synthetic", "--header", "no colon"),
        ("synthetic", "--input", "missing.jpg"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(bench, arguments):
    result = bench(*arguments)
    assert result.exit_code == 2, result.output


def test_an_error_is_one_sentence_and_its_exit_code_1(tmp_path):
    url = f"http://127.0.0.1:{free_ports(1)[0]}/predictions/m"
    done = subprocess.run(
        [*BENCH, "--url", url, "--out", tmp_path], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: Nothing answers at 127.0.0.1:")
    assert "Traceback" not in done.stderr


def started(server, out, *arguments: object) -> subprocess.Popen:
    """The command, once its generator is at work."""
    process = subprocess.Popen(
        [
            *BENCH,
            "synthetic",
            "--state",
            server.state.path,
            "--out",
            out,
            *map(str, arguments),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: bool(psutil.Process(process.pid).children()), within_s=40)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_it_leaves_a_partial_report_and_no_process(
    server, hello, tmp_path, number
):
    given = ("--input", hello, "--clients", 2, "--rate", 5, "--seconds", 60, "--warm-up", 0)
    process = started(server, tmp_path, *given)
    [child] = psutil.Process(process.pid).children()
    until(lambda: len(child.net_connections()) >= 2, within_s=40)
    time.sleep(1.5)
    os.kill(process.pid, number)
    printed, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert (
        "The report is incomplete: stopped before all loads were measured" in said
        and "Traceback" not in said
    )
    assert not child.is_running()
    [path] = tmp_path.glob("*.json")
    assert str(path) in printed
    report = read_report(path)
    assert report.partial == "stopped before all loads were measured"
    [result] = report.results
    assert result.partial and 0.5 < result.seconds < 20 and result.answered
    assert "This report is partial" in path.with_suffix(".html").read_text()


def test_a_server_that_answers_nothing_ends_the_run_with_a_partial_report(bench, server, tmp_path):
    late = tmp_path / "late.txt"
    late.write_text("sleep 400")
    result = bench(
        "synthetic", "--input", late, "--clients", 1, "--clients", 2, "--seconds", 1,
        "--timeout", 0.2, "--warm-up", 0,
    )  # fmt: skip
    assert result.exit_code == 1
    assert (
        "The report is incomplete: no request was answered with a load of 1 client" in result.output
    )
    [path] = (tmp_path / "reports").glob("*.json")
    assert [each.kind for each in read_report(path).results[0].errors] == ["timeout"]


def test_locusts_own_page_works_with_these_users(server, hello, tmp_path):
    [port] = free_ports(1)
    process = started(server, tmp_path, "--input", hello, "--web", "--web-port", port)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as page:
            assert str(port) in process.stdout.readline()
            assert "Locust" in page.get("/").text
            page.post("/swarm", data={"user_count": 2, "spawn_rate": 2})
            until(lambda: page.get("/stats/requests").json()["total_rps"] > 5)
            statistics = page.get("/stats/requests").json()
        assert statistics["user_count"] == 2 and not statistics["errors"]
    finally:
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert not list(tmp_path.glob("*.json"))


def test_a_port_that_is_taken_by_another_is_told(server, hello, tmp_path):
    taken = server.record.addresses.inference.rpartition(":")[2]
    process = started(server, tmp_path, "--input", hello, "--web", "--web-port", taken)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"error: Locust's web page cannot be served on port {taken}" in said
    assert "--web-port" in said and "Address already in use" in said
