"""Tokens that are renewed, and default versions that change."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from shipway.front import torchserve
from shipway.front.torchserve import Defaults, Tokens


@pytest.fixture
def keys(tmp_path) -> Path:
    return tmp_path / "key_file.json"


def write_keys(path: Path, inference: str, expires_in_s: float = 3600) -> None:
    expires = datetime.now(UTC) + timedelta(seconds=expires_in_s)
    moment = expires.strftime("%Y-%m-%dT%H:%M:%S.123456789Z")
    keys = {
        "inference": {"key": inference, "expiration time": moment},
        "management": {"key": "manager", "expiration time": moment},
        "API": {"key": "api"},
    }
    path.write_text(json.dumps(keys))
    os.utime(path, ns=(time.monotonic_ns(), time.monotonic_ns()))


def test_an_old_token_counts_for_a_while_after_a_renewal(keys, monkeypatch):
    tokens = Tokens(keys, torchserve.Management("127.0.0.1:3", None))
    tokens.look()
    assert tokens.current is None and tokens.valid() == ()
    write_keys(keys, "first")
    tokens.look()
    assert tokens.valid() == ("first",) and tokens.management == "manager"
    monkeypatch.setattr(torchserve, "OLD_TOKEN_COUNTS_S", 0.2)
    write_keys(keys, "second")
    tokens.look()
    assert tokens.current == "second" and tokens.valid() == ("second", "first")
    time.sleep(0.25)
    assert tokens.valid() == ("second",)


def test_a_key_file_that_is_being_written_changes_nothing(keys):
    tokens = Tokens(keys, torchserve.Management("127.0.0.1:3", None))
    write_keys(keys, "first")
    tokens.look()
    for half in ('{"inference": {"ke', "{}", "null", '{"inference": {"key": null}}'):
        keys.write_text(half)
        os.utime(keys, ns=(time.monotonic_ns(), time.monotonic_ns()))
        tokens.look()
        assert tokens.valid() == ("first",)


class Management(ThreadingHTTPServer):
    """Answers as TorchServe's management API does, from `defaults`."""

    def __init__(self) -> None:
        self.defaults: dict[str, str] = {}
        self.workers = 1
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
            version = self.server.defaults.get(self.path.rpartition("/")[2])
            said = [{"modelVersion": version, "minWorkers": self.server.workers}]
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
    defaults = Defaults(torchserve.Management(management.address, None))
    management.defaults = {"cats": "1.0", "dogs": "2.0"}
    for _ in range(3):
        defaults.look("token", in_a_hurry=False)
        assert defaults.versions == management.defaults
    described = [path for path, _ in management.asked if "?" not in path]
    assert described == ["/models/cats", "/models/dogs"]
    assert {token for _, token in management.asked} == {"Bearer token"}
    management.defaults = {"cats": "1.1"}
    defaults.look("token", in_a_hurry=False)
    assert defaults.versions == {"cats": "1.1"}


def test_a_default_from_an_archive_of_the_same_name_is_followed(management, monkeypatch):
    defaults = Defaults(torchserve.Management(management.address, None))
    management.defaults = {"cats": "1.0"}
    defaults.look(None, in_a_hurry=False)
    management.defaults = {"cats": "2.0"}
    defaults._urls = {"cats": "cats-2.0.mar"}  # as if both came from one file
    defaults.look(None, in_a_hurry=False)
    assert defaults.versions == {"cats": "1.0"}
    defaults.look(None, in_a_hurry=True)
    assert defaults.versions == {"cats": "2.0"}
    management.defaults = {"cats": "3.0"}
    defaults._urls = {"cats": "cats-3.0.mar"}
    monkeypatch.setattr(torchserve, "DESCRIBE_EVERY_S", 0.0)
    defaults.look(None, in_a_hurry=False)
    assert defaults.versions == {"cats": "3.0"}


def test_a_server_is_idle_when_every_model_is_scaled_to_no_worker(management):
    defaults = Defaults(torchserve.Management(management.address, None))
    defaults.look(None, in_a_hurry=True)
    assert not defaults.idle  # nothing is registered
    management.workers, management.defaults = 0, {"cats": "1.0"}
    defaults.look(None, in_a_hurry=True)
    assert defaults.idle
    management.workers, management.defaults = 1, {"cats": "1.0", "dogs": "1.0"}
    defaults.look(None, in_a_hurry=False)  # only dogs are new
    assert not defaults.idle
    management.defaults = {"cats": "1.0"}
    defaults.look(None, in_a_hurry=False)
    assert defaults.idle  # for all that is known of cats
    defaults.look(None, in_a_hurry=True)
    assert not defaults.idle


def test_what_was_true_goes_on_while_torchserve_does_not_answer(management):
    defaults = Defaults(torchserve.Management(management.address, None))
    management.defaults = {"cats": "1.0"}
    defaults.look(None, in_a_hurry=True)
    management.shutdown()
    management.server_close()
    defaults.look(None, in_a_hurry=True)
    assert defaults.versions == {"cats": "1.0"}


def test_tokens_that_are_about_to_expire_are_renewed(keys, management):
    tokens = Tokens(keys, torchserve.Management(management.address, None))
    write_keys(keys, "first", expires_in_s=10)
    tokens.look()
    tokens.renew()
    assert ("/token?type=inference", "Bearer api") in management.asked
    assert ("/token?type=management", "Bearer api") in management.asked
