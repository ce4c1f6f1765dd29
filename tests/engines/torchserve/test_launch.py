import os
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from shipway.engines.errors import LaunchError, ModelNotFound, NoServer
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve import launch
from shipway.engines.torchserve.config import read_config
from shipway.engines.torchserve.java import find_java
from shipway.engines.torchserve.management import ManagementClient
from tests.servers import SHIPWAY, running_server, until, write_config


@contextmanager
def foreground(folder: Path):
    """`shipway serve` as a person runs it, once it is ready; killed if the test forgets it."""
    write_config(folder)
    # A shell that runs the tests in its background has switched Ctrl-C off for all below it.
    command = ["env", "--default-signal=INT", *SHIPWAY, "serve"]
    command += ["--state", str(folder / ".shipway")]
    # What must not reach TorchServe, or come between it and its clients.
    hostile = {"TS_CONFIG_FILE": "/nowhere", "http_proxy": "http://127.0.0.1:9"}
    with subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | hostile,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            said = []
            for line in process.stdout or ():
                said.append(line)
                if "Press Ctrl-C to stop" in line:
                    break
            else:
                pytest.fail("the server did not start: " + "".join(said))
            yield process, StateDirectory(folder / ".shipway")
        finally:
            process.kill()


def shipway(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SHIPWAY, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=120
    )


def register(state: StateDirectory, mar: Path, workers: int = 1) -> None:
    store = Path(state.require_running().model_store)
    (store / mar.name).write_bytes(mar.read_bytes())
    ManagementClient(state).register(
        mar.name, name="echo", version="1.0", batch_size=1, max_batch_delay_ms=0, workers=workers
    )


def assert_nothing_is_left(state: StateDirectory, record, processes) -> None:
    _, alive = psutil.wait_procs(processes, timeout=10)  # an orphan is buried by init, in a while
    assert alive == []
    assert record.processes() == []
    assert not Path(record.launch).exists()
    assert sorted(path.name for path in state.path.iterdir()) == ["logs"]


def start(folder: Path, *, expose_management: bool = False, **settings: Any):
    return launch.start(
        read_config(write_config(folder, **settings)),
        java=find_java(),
        model_store=folder / "model_store",
        state=StateDirectory(folder / ".shipway"),
        dies_with_us=True,
        expose_management=expose_management,
    )


@pytest.mark.timing
def test_sigterm_ends_the_foreground_server_and_its_workers(tmp_path, echo_mars):
    with foreground(tmp_path) as (process, state):
        record = state.require_running()
        register(state, echo_mars["1.0"], workers=2)
        processes = record.processes()
        assert len(processes) >= 3
        process.terminate()
        assert process.wait(timeout=60) == 0
        assert process.stdout.read().splitlines()[-1] == "stopped"
    assert_nothing_is_left(state, record, processes)


def test_ctrl_c_ends_the_foreground_server(tmp_path):
    with foreground(tmp_path) as (process, state):
        record = state.require_running()
        processes = record.processes()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    assert_nothing_is_left(state, record, processes)


def test_a_launcher_killed_outright_takes_java_and_workers_along(tmp_path, echo_mars):
    with foreground(tmp_path) as (process, state):
        record = state.require_running()
        register(state, echo_mars["1.0"])
        processes = record.processes()
        process.kill()
        process.wait()
        until(lambda: not any(one.is_running() for one in processes))
    # It could not tidy up; the next one does, and is not put off by what lies there.
    started = shipway("serve", "--background", cwd=tmp_path)
    assert started.returncode == 0, started.stderr
    assert not Path(record.launch).exists()

    second = state.require_running()
    processes = second.processes()
    stopped = shipway("stop", cwd=tmp_path)
    assert stopped.returncode == 0, stopped.stderr
    assert_nothing_is_left(state, second, processes)

    again = shipway("stop", cwd=tmp_path)
    assert again.returncode == 1
    assert "No server is running for" in again.stderr


def test_a_java_that_dies_is_reported_and_its_workers_do_not_outlive_it(tmp_path, echo_mars):
    with foreground(tmp_path) as (process, state):
        record = state.require_running()
        register(state, echo_mars["1.0"])
        processes = record.processes()
        os.kill(record.pid, signal.SIGKILL)
        assert process.wait(timeout=60) == 1
        assert "TorchServe stopped unexpectedly with exit code -9" in process.stdout.read()
    assert_nothing_is_left(state, record, processes)


def test_a_stop_from_elsewhere_ends_the_foreground_command_in_good_order(tmp_path):
    with foreground(tmp_path) as (process, state):
        assert shipway("stop", "--state", state.path, cwd=Path("/")).returncode == 0
        assert process.wait(timeout=60) == 0


def test_a_second_server_in_the_same_state_directory_is_refused(server):
    with pytest.raises(
        LaunchError, match=rf"already running for this state directory: process {server.record.pid}"
    ):
        launch.start(
            read_config(server.config),
            java=find_java(),
            model_store=server.model_store,
            state=server.state,
            dies_with_us=True,
        )
    assert server.management.names() == ["echo"]


def test_stopping_where_nothing_was_started_is_an_error(tmp_path):
    with pytest.raises(NoServer, match="No server is running for"):
        launch.stop(StateDirectory(tmp_path))


def test_tokens_that_expired_are_renewed_without_anybody_noticing(tmp_path):
    with running_server(tmp_path, token_expiration_min=0.02) as running:
        before = running.tokens.get("management")
        assert running.management.names() == []
        time.sleep(1.5)
        assert running.management.names() == []
        for predictor in (running.inference, running.grpc):
            with pytest.raises(ModelNotFound):  # past the token, at least
                predictor.predict("nothing", b"x")
        assert running.tokens.get("management") != before


def test_the_servers_files_are_readable_by_their_owner_only(server):
    assert server.state.path.stat().st_mode & 0o077 == 0
    assert server.tokens.key_file.stat().st_mode & 0o077 == 0
