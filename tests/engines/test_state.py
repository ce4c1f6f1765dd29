import os
import subprocess
import sys

import pytest

from shipway.engines.errors import NoServer
from shipway.engines.state import (
    LAUNCH_MARK,
    Addresses,
    ServerRecord,
    StateDirectory,
    find_project,
)

ADDRESSES = Addresses(
    inference="http://127.0.0.1:1",
    management="http://127.0.0.1:2",
    metrics="http://127.0.0.1:3",
    grpc_inference="127.0.0.1:4",
    grpc_management="127.0.0.1:5",
    exporter="http://127.0.0.1:6",
)


def record(pid: int, launch: str) -> ServerRecord:
    return ServerRecord(
        pid=pid,
        launch=launch,
        addresses=ADDRESSES,
        max_request_bytes=1,
        metrics_directory="/metrics",
        config="c",
        model_store="s",
        started="now",
    )


@pytest.fixture
def sleeper():
    """A process that carries the mark of a launch, and its child, which inherits it."""
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        env=os.environ | {LAUNCH_MARK: "/tmp/a-launch"},
    ) as process:
        yield process
        process.communicate(b"\n")


def test_a_record_reads_back_as_it_was_written(tmp_path):
    state, written = StateDirectory(tmp_path), record(1, "l")
    assert state.write(written)
    assert state.read() == written
    assert [file.name for file in tmp_path.iterdir()] == ["server.json"]


def test_the_record_of_another_server_is_never_overwritten(tmp_path):
    state, first = StateDirectory(tmp_path), record(1, "first")
    assert state.write(first)
    assert not state.write(record(2, "second"))
    assert state.read() == first


def test_a_running_server_is_found(tmp_path, sleeper):
    state, running = StateDirectory(tmp_path), record(sleeper.pid, "/tmp/a-launch")
    state.write(running)
    assert state.running() == running
    while len(running.processes()) < 2:
        sleeper.poll()
    assert sleeper.pid in [process.pid for process in running.processes()]


def test_a_server_is_found_from_the_moment_that_its_process_has_started(tmp_path):
    # Linux shows no environment for a moment: two of a hundred times.
    for number in range(150):
        state = StateDirectory(tmp_path / str(number))
        state.path.mkdir()
        with subprocess.Popen(
            ["cat"], stdin=subprocess.PIPE, env=os.environ | {LAUNCH_MARK: "mine"}
        ) as process:
            assert state.write(record(process.pid, "mine"))
            assert state.running() is not None
            process.communicate()


def test_a_recycled_pid_is_not_taken_for_the_server(tmp_path, sleeper):
    state = StateDirectory(tmp_path)
    state.write(record(sleeper.pid, "/tmp/another-launch"))
    assert state.running() is None


def test_without_a_server_the_error_says_where_it_looked_and_what_to_do(tmp_path):
    with pytest.raises(NoServer, match=rf"{tmp_path}.*`shipway serve`"):
        StateDirectory(tmp_path).require_running()


def test_a_record_that_does_not_read_is_named(tmp_path):
    (tmp_path / "server.json").write_text("{")
    with pytest.raises(NoServer, match=r"server\.json cannot be read"):
        StateDirectory(tmp_path).running()


def test_the_project_is_the_nearest_folder_with_a_state_directory_or_a_config(tmp_path):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_project(below) == below
    (tmp_path / "config.properties").touch()
    assert find_project(below) == tmp_path
    (tmp_path / "a" / ".shipway").mkdir()
    assert find_project(below) == tmp_path / "a"
