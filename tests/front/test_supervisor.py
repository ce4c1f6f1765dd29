"""Processes that end are started again, those that cannot run are not."""

import time

from shipway.front import supervisor as supervisors
from shipway.front.envoy import start
from shipway.front.supervisor import Supervisor


def test_a_process_that_ends_is_started_again_ever_more_slowly(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisors, "RESTART_PAUSE_S", (0.0, 0.0, 60.0))
    script = tmp_path / "envoy"
    script.write_text(f"#!/bin/sh\necho started >> {tmp_path}/starts\nexit 3\n")
    script.chmod(0o700)
    supervisor = Supervisor("Envoy", lambda: start([str(script)], tmp_path / "log"))
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        supervisor.look()
        time.sleep(0.01)
    assert (tmp_path / "starts").read_text().count("started") == 2
    supervisor.end()


def test_a_process_that_cannot_run_on_this_machine_is_not_started_again(tmp_path):
    supervisor = Supervisor(
        "The template", lambda: start(["sh", "-c", "exit 69"], tmp_path / "log")
    )
    for _ in range(30):
        supervisor.look()
        time.sleep(0.01)
    assert supervisor._process is None and supervisor._again == float("inf")
    supervisor.end()
