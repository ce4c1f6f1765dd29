"""`shipway tune`, on a real server of its own."""

import signal
import subprocess

import psutil
import pytest

from shipway.archive.pack import pack
from shipway.artifact.tuned import Tuned, read_tuned, tuned_path, write_tuned
from tests.conftest import REPOSITORY
from tests.servers import SHIPWAY, is_worker, running_server, until

NAME = "tiny"


@pytest.fixture(scope="module")
def store(tiny_artifact, tmp_path_factory):
    """A model store with the tiny artifact in it."""
    folder = tmp_path_factory.mktemp("store")
    pack(tiny_artifact, folder)
    return folder


def tune(store, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*SHIPWAY, "tune", *arguments, "--model-store", str(store)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=280)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((NAME,), 2, "--slo-p99"),
        ((NAME, "--slo-p99", "50"), 2, "for example 50ms or 0.05s"),
        ((NAME, "--slo-p99", "0ms"), 2, "for example 50ms or 0.05s"),
        ((NAME, "--slo-p99", "50ms", "--exhaustive", "--trials", "2"), 2, "tries every setting"),
        (("dog", "--slo-p99", "50ms"), 1, "contains no dog-*.mar. Its archives: tiny-1.0.mar"),
        ((NAME, "--version", "7", "--slo-p99", "50ms"), 1, "contains no tiny-7.mar"),
    ],
)
def test_what_cannot_be_tuned_is_told_before_anything_starts(store, arguments, code, said):
    done = tune(store, *arguments)
    assert done.returncode == code
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


@pytest.mark.timing
def test_settings_are_found_written_and_taken_by_register(store, tmp_path):
    done = tune(store, NAME, "--slo-p99", "200ms", "--seconds", "1", "--trials", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "start of the search" in done.stdout
    tuned = read_tuned(store, NAME, "1.0")
    assert tuned.evidence.slo_p99_ms == 200
    assert 0 < tuned.evidence.p99_ms <= 200
    assert f"{tuned.evidence.rate:.0f} requests/s with a p99 of" in " ".join(done.stdout.split())
    serving = tuned.serving.model_copy(update={"batch_size": 7, "workers": 2, "threads": 1})
    write_tuned(store, NAME, "1.0", Tuned(serving=serving))
    with running_server(tmp_path, model_store=store) as server:
        mar = str(store / "tiny-1.0.mar")
        command = [*SHIPWAY, "register", mar, "--state", str(server.state.path)]
        subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
        [version] = server.management.describe(NAME)
        assert (version.batch_size, version.workers) == (7, 2)
        assert server.management.what_runs(NAME, "1.0")["threads"] == 1


def test_a_latency_that_nothing_keeps_is_told_with_the_nearest(store):
    tuned_path(store, NAME, "1.0").unlink(missing_ok=True)
    done = tune(store, NAME, "--slo-p99", "0.1ms", "--seconds", "1", "--trials", "1")
    assert done.returncode == 1
    assert "has a p99 below 0.1 ms" in done.stderr
    assert "The closest was" in done.stderr
    assert not tuned_path(store, NAME, "1.0").exists()


def test_ctrl_c_writes_nothing_and_leaves_no_process(store):
    command = [*SHIPWAY, "tune", NAME, "--slo-p99", "100ms", "--model-store", str(store)]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    tuner = psutil.Process(process.pid)
    # A worker is up, so the search is under way.
    until(lambda: any(is_worker(each) for each in tuner.children(recursive=True)), 60)
    children = tuner.children(recursive=True)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    psutil.wait_procs(children, timeout=10)
    assert not [each for each in children if each.is_running()]
    assert not tuned_path(store, NAME, "1.0").exists()
