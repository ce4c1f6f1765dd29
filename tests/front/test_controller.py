"""What the controller notices: tokens, defaults, workers that hang, an Envoy that ends."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from shipway.front import controller
from shipway.front.controller import Settings, Supervisor, Watch, settings_file
from shipway.front.exchange import Served
from shipway.front.registered import Announced, Registered
from shipway.serving.progress import ProgressFile


@pytest.fixture
def settings(tmp_path):
    return Settings(
        envoy="/bin/false",
        folder=str(tmp_path),
        workers=str(tmp_path),
        host="127.0.0.1",
        port=1,
        grpc_host="127.0.0.1",
        grpc_port=4,
        torchserve="127.0.0.1:2",
        torchserve_grpc="127.0.0.1:5",
        management="127.0.0.1:3",
        key_file=str(tmp_path / "key_file.json"),
        with_tokens=True,
        answer_within_s=60.0,
        log=str(tmp_path / "log"),
        pid=os.getpid(),
        stopping_file=str(tmp_path / "stopping"),
    )


def test_settings_come_back_from_their_file(settings):
    path = settings_file(settings)
    assert Settings(**json.loads(path.read_text())) == settings


def test_a_worker_without_progress_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(controller, "CONFIRMED_AFTER_S", 0.1)
    watch = Watch()
    sleeping = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    socket = str(tmp_path / f"{sleeping.pid}.sock")
    worker = Announced(
        name="cats", version="1.0", pid=sleeping.pid, socket=socket, answer_within_s=0.2
    )
    watch.look([worker])
    progress = ProgressFile(tmp_path / f"{sleeping.pid}.progress")
    watch.look([worker])
    progress.begin()
    time.sleep(0.3)
    progress.beat()
    watch.look([worker])
    assert sleeping.poll() is None  # not before it is seen twice
    progress.end()
    watch.look([worker])
    progress.begin()
    time.sleep(0.3)
    watch.look([worker])
    time.sleep(0.15)
    watch.look([worker])
    assert sleeping.wait(5) == -signal.SIGKILL


def test_an_envoy_that_ends_is_started_again_ever_more_slowly(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(controller, "RESTART_PAUSE_S", (0.0, 0.0, 60.0))
    script = tmp_path / "envoy"
    script.write_text(f"#!/bin/sh\necho started >> {tmp_path}/starts\nexit 3\n")
    script.chmod(0o700)
    supervisor = Supervisor(replace(settings, envoy=str(script)), lambda: tmp_path / "envoy.json")
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        supervisor.look()
        time.sleep(0.01)
    assert (tmp_path / "starts").read_text().count("started") == 2
    supervisor.end()


def test_what_is_served_is_said_with_its_defaults():
    worker = Announced(name="cats", version="1.0", pid=1, socket="/1", answer_within_s=1)
    registered = Registered(workers=(worker,), defaults={"cats": "1.0", "old": "1"})
    assert controller.served_by(registered) == Served(
        defaults={"cats": "1.0", "old": "1"}, versions=frozenset([("cats", "1.0")])
    )
