"""`shipway stop`, on a server of its own."""

import subprocess

import psutil

from tests.servers import SHIPWAY, write_config


def test_a_server_in_the_background_runs_until_it_is_stopped(tmp_path):
    config, state = write_config(tmp_path), tmp_path / "state"
    started = subprocess.run(
        [*SHIPWAY, "serve", "--background", "--config", config, "--state", state],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert started.returncode == 0, started.stderr
    assert "TorchServe is ready." in started.stdout
    assert "Stop the server with `shipway stop`." in started.stdout
    stopped = subprocess.run(
        [*SHIPWAY, "stop", "--state", state], capture_output=True, text=True, timeout=120
    )
    assert stopped.returncode == 0, stopped.stderr
    assert stopped.stdout.startswith("stopped the server at http://127.0.0.1:")
    assert not [
        process for process in psutil.process_iter() if str(state) in " ".join(_words(process))
    ]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
