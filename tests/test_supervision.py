"""Processes that end are started again, those that cannot run are not."""

import time

from shipway import supervision
from shipway.front.envoy import start
from shipway.supervision import Deaths, Supervisor


def test_a_process_that_ends_is_started_again_ever_more_slowly(tmp_path, monkeypatch):
    monkeypatch.setattr(supervision, "RESTART_PAUSE_S", (0.0, 0.0, 60.0))
    script = tmp_path / "envoy"
    script.write_text(f"#!/bin/sh\necho started >> {tmp_path}/starts\nexit 3\n")
    script.chmod(0o700)
    deaths = Deaths(tmp_path / "deaths")
    supervisor = Supervisor("envoy", lambda: start([str(script)], tmp_path / "log"), deaths)
    assert deaths.counts() == {"envoy": 0}
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        supervisor.look()
        time.sleep(0.01)
    assert (tmp_path / "starts").read_text().count("started") == 2
    assert Deaths(tmp_path / "deaths").counts() == {"envoy": 2}
    supervisor.end()


def test_a_process_that_cannot_run_on_this_machine_is_not_started_again(tmp_path):
    supervisor = Supervisor(
        "template",
        lambda: start(["sh", "-c", "exit 69"], tmp_path / "log"),
        Deaths(tmp_path / "deaths"),
    )
    for _ in range(30):
        supervisor.look()
        time.sleep(0.01)
    assert supervisor._process is None and supervisor._again == float("inf")
    supervisor.end()
