"""What the controller notices: tokens, defaults, workers that hang, an Envoy that ends."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from shipway.front import controller
from shipway.front.controller import Defaults, Settings, Supervisor, Tokens, Watch, settings_file
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
        max_request_bytes=1,
        log=str(tmp_path / "log"),
        pid=os.getpid(),
        stopping_file=str(tmp_path / "stopping"),
    )


def write_keys(settings: Settings, inference: str, expires_in_s: float = 3600) -> None:
    expires = datetime.now(UTC) + timedelta(seconds=expires_in_s)
    moment = expires.strftime("%Y-%m-%dT%H:%M:%S.123456789Z")
    keys = {
        "inference": {"key": inference, "expiration time": moment},
        "management": {"key": "manager", "expiration time": moment},
        "API": {"key": "api"},
    }
    path = Path(settings.key_file)
    path.write_text(json.dumps(keys))
    os.utime(path, ns=(time.monotonic_ns(), time.monotonic_ns()))


def test_settings_come_back_from_their_file(settings):
    path = settings_file(settings)
    assert Settings(**json.loads(path.read_text())) == settings


def test_an_old_token_counts_for_a_while_after_a_renewal(settings, monkeypatch):
    tokens = Tokens(settings)
    tokens.look()
    assert tokens.current is None and tokens.valid() == ()
    write_keys(settings, "first")
    tokens.look()
    assert tokens.valid() == ("first",) and tokens.management == "manager"
    monkeypatch.setattr(controller, "OLD_TOKEN_COUNTS_S", 0.2)
    write_keys(settings, "second")
    tokens.look()
    assert tokens.current == "second" and tokens.valid() == ("second", "first")
    time.sleep(0.25)
    assert tokens.valid() == ("second",)


def test_a_key_file_that_is_being_written_changes_nothing(settings):
    tokens = Tokens(settings)
    write_keys(settings, "first")
    tokens.look()
    Path(settings.key_file).write_text('{"inference": {"ke')
    tokens.look()
    assert tokens.valid() == ("first",)


class Management(ThreadingHTTPServer):
    """Answers as TorchServe's management API does, from `defaults`."""

    def __init__(self) -> None:
        self.defaults: dict[str, str] = {}
        self.asked: list[tuple[str, str | None]] = []
        super().__init__(("127.0.0.1", 0), Handler)
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Management

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Authorization"]))
        if self.path.startswith("/models?"):
            models = [
                {"modelName": name, "modelUrl": f"{name}-{version}.mar"}
                for name, version in self.server.defaults.items()
            ]
            said: object = {"models": models}
        else:
            said = [{"modelVersion": self.server.defaults.get(self.path.rpartition("/")[2])}]
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def management():
    made = Management()
    yield made
    made.shutdown()
    made.server_close()


def test_defaults_are_followed_and_described_only_after_a_change(management):
    defaults = Defaults(management.address)
    management.defaults = {"cats": "1.0", "dogs": "2.0"}
    for _ in range(3):
        assert defaults.look("token", in_a_hurry=True) == management.defaults
    described = [path for path, _ in management.asked if "?" not in path]
    assert described == ["/models/cats", "/models/dogs"]
    assert {token for _, token in management.asked} == {"Bearer token"}
    management.defaults = {"cats": "1.1"}
    assert defaults.look("token", in_a_hurry=True) == {"cats": "1.1"}
    count = len(management.asked)
    assert defaults.look("token", in_a_hurry=False) == {"cats": "1.1"}
    assert len(management.asked) == count


def test_what_was_true_goes_on_while_torchserve_does_not_answer(management):
    defaults = Defaults(management.address)
    management.defaults = {"cats": "1.0"}
    assert defaults.look(None, in_a_hurry=True) == {"cats": "1.0"}
    management.shutdown()
    management.server_close()
    assert defaults.look(None, in_a_hurry=True) == {"cats": "1.0"}


def test_tokens_that_are_about_to_expire_are_renewed(settings, management):
    tokens = Tokens(replace(settings, management=management.address))
    write_keys(settings, "first", expires_in_s=10)
    tokens.look()
    tokens.look()
    assert ("/token?type=inference", "Bearer api") in management.asked
    assert ("/token?type=management", "Bearer api") in management.asked


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
    supervisor = Supervisor(replace(settings, envoy=str(script)), tmp_path / "envoy.json")
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
