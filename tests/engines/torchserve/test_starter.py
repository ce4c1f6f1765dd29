"""A worker that is forked for TorchServe: it is passed what TorchServe says, and replaced."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from shipway.engines.torchserve import starter, template
from shipway.engines.torchserve.starter import STARTER_VARIABLE, TEMPLATE_VARIABLE
from tests.servers import until

WORKER = """
import json, os, socket, struct, sys, time
import torch

if os.path.exists("die"):
    sys.exit(4)

path = sys.argv[sys.argv.index("--sock-name") + 1]
sock = socket.socket(socket.AF_UNIX)
sock.bind(path)
sock.listen(1)
print("[PID]%d" % os.getpid(), flush=True)
connection, _ = sock.accept()
model = connection.recv(4096)
hang = os.path.join(os.getcwd(), "hang")
while os.path.exists(hang):
    time.sleep(0.05)
code, text = (200, b"loaded") if model == b"Lcats" else (500, b"no such model")
if code == 200:
    starter = os.environ["SHIPWAY_STARTER"]
    with open(os.path.join(os.path.dirname(path), starter + ".json"), "w") as file:
        json.dump({"name": "cats", "version": os.environ["VERSION"]}, file)
connection.sendall(struct.pack("!ii", code, len(text)) + text + struct.pack("!i", -1))
if code != 200:
    sys.exit(3)
while said := connection.recv(4096):
    if said == b"who":
        from shipway.code import NAME
        told = {"pid": os.getpid(), "code": NAME, "threads": len(os.listdir("/proc/self/task"))}
        told |= {"version": os.environ["VERSION"], "folder": os.getcwd()}
        connection.sendall(json.dumps(told).encode() + b"\\xff" * 4)
    elif said == b"wait":
        pass
    elif said == b"half":
        connection.sendall(b"half of a reply")
    else:
        connection.sendall(said.upper() + b"\\xff" * 4)
"""
LOADED = struct.pack("!ii", 200, 6) + b"loaded" + struct.pack("!i", -1)


def archive(folder: Path, name: str = "first") -> Path:
    """An unpacked archive that serves directly, with code of its own."""
    (folder / "shipway" / "serving").mkdir(parents=True)
    for path in ("__init__.py", "serving/direct.py"):
        (folder / "shipway" / path).touch()
    (folder / "shipway" / "code.py").write_text(f"NAME = {name!r}")
    (folder / "model_service_worker.py").write_text(WORKER)
    return folder


class Started:
    """A starter as TorchServe starts it."""

    def __init__(self, forks: Path, folder: Path) -> None:
        self.socket = folder / ".ts.sock.9000"
        self.output = folder / "output"
        script = folder / "model_service_worker.py"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", starter.__file__, str(script)]
                + ["--sock-type", "unix", "--sock-name", str(self.socket)],
                cwd=folder,
                env=os.environ
                | {"PYTHONPATH": str(folder), TEMPLATE_VARIABLE: str(forks), "VERSION": "1.0"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.torchserve = socket.socket(socket.AF_UNIX)

    def connect(self, timeout_s: float = 30) -> None:
        until(lambda: "[PID]" in self.output.read_text(), timeout_s)
        self.torchserve.settimeout(timeout_s)
        self.torchserve.connect(str(self.socket))

    def asked(self, said: bytes) -> bytes:
        self.torchserve.sendall(said)
        return self.torchserve.recv(4096)

    def who(self) -> dict:
        return json.loads(self.asked(b"who").rstrip(b"\xff"))


@contextmanager
def started(forks: Path, folder: Path) -> Iterator[Started]:
    one = Started(forks, folder)
    try:
        yield one
    finally:
        one.torchserve.close()
        one.process.kill()
        one.process.wait()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(pid))


@pytest.fixture
def one(forks, tmp_path) -> Iterator[Started]:
    """A worker that has loaded its model."""
    with started(forks, archive(tmp_path)) as one:
        one.connect()
        assert one.asked(b"Lcats") == LOADED
        yield one


def test_a_forked_worker_is_like_one_that_torchserve_started(one, tmp_path):
    said = one.who()
    assert said["code"] == "first" and said["version"] == "1.0"
    assert said["folder"] == str(tmp_path)
    assert said["threads"] == 1
    assert said["pid"] != one.process.pid
    assert one.asked(b"abc") == b"ABC\xff\xff\xff\xff"


def test_two_archives_with_different_code_come_from_one_template(one, forks, tmp_path_factory):
    with started(forks, archive(tmp_path_factory.mktemp("second"), "second")) as two:
        two.connect()
        assert two.asked(b"Lcats") == LOADED
        assert (one.who()["code"], two.who()["code"]) == ("first", "second")


def test_a_worker_that_dies_is_replaced_and_torchserve_sees_nothing(one, forks):
    before = one.who()["pid"]
    kill(before)
    began = time.monotonic()
    after = one.who()["pid"]
    assert after != before and time.monotonic() - began < 5
    assert one.process.poll() is None
    assert "was ended by signal 9" in one.output.read_text()
    said = json.loads(forks.with_name(f"{one.process.pid}.deaths").read_text())
    assert (said["pid"], said["name"], said["version"]) == (one.process.pid, "cats", "1.0")
    assert [time.monotonic() - each < 10 for each in said["deaths"]] == [True]


@pytest.mark.parametrize("said", [b"wait", b"half"])
def test_a_worker_that_dies_while_torchserve_waits_ends_its_starter(one, said):
    pid = one.who()["pid"]
    one.torchserve.sendall(said)
    time.sleep(0.2)
    os.kill(pid, signal.SIGKILL)
    assert one.process.wait(10) == 1
    assert one.torchserve.recv(100) == (b"half of a reply" if said == b"half" else b"")


def test_a_worker_that_dies_before_it_listens_ends_its_starter(forks, tmp_path):
    (archive(tmp_path) / "die").touch()
    with started(forks, tmp_path) as one:
        assert one.process.wait(10) == 1
        assert "ended with status 4" in one.output.read_text()


def test_while_a_further_worker_loads_torchserve_may_hang_up(one, tmp_path):
    (tmp_path / "hang").touch()
    kill(one.who()["pid"])
    until(lambda: one.output.read_text().count("[PID]") == 2)
    one.torchserve.close()
    one.process.wait(10)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_starter_that_ends_takes_its_worker_along(one, number):
    pid = one.who()["pid"]
    one.process.send_signal(number)
    one.process.wait(10)
    until(lambda: not psutil.pid_exists(pid))


def test_a_starter_whose_torchserve_hangs_up_ends_and_leaves_nothing(one, forks):
    kill(one.who()["pid"])
    pid = one.who()["pid"]
    one.torchserve.close()
    one.process.wait(10)
    until(lambda: not psutil.pid_exists(pid))
    assert not one.socket.exists()
    assert not forks.with_name(f"{one.process.pid}.deaths").exists()


def test_a_worker_that_cannot_load_its_model_tells_torchserve(forks, tmp_path):
    with started(forks, archive(tmp_path)) as one:
        one.connect()
        assert b"no such model" in one.asked(b"Ldogs")
        assert one.process.wait(10) == 1


def test_an_archive_without_this_code_is_started_as_it_always_was(forks, tmp_path):
    (tmp_path / "model_service_worker.py").write_text("print('[PID] by itself')")
    with started(forks, tmp_path) as one:
        assert one.process.wait(30) == 0
        assert "by itself" in one.output.read_text()
        assert STARTER_VARIABLE not in one.output.read_text()


def test_where_no_worker_can_be_forked_it_starts_by_itself_at_once(tmp_path):
    (archive(tmp_path) / "model_service_worker.py").write_text("print('[PID] by itself')")
    forks = tmp_path / "template.sock"
    forks.with_name("template.sock.impossible").write_text("a reason")
    with started(forks, tmp_path) as one:
        assert one.process.wait(20) == 0
        assert "cannot be forked: a reason" in one.output.read_text()
        assert "by itself" in one.output.read_text()
    assert starter.IMPOSSIBLE_SUFFIX == template.IMPOSSIBLE_SUFFIX


def test_without_a_template_a_worker_starts_by_itself_and_says_so(tmp_path):
    script = archive(tmp_path) / "model_service_worker.py"
    script.write_text("print('[PID] by itself')")
    (tmp_path / "shorter.py").write_text(
        f"import sys; sys.path.insert(0, {str(Path(starter.__file__).parent)!r})\n"
        "import starter; starter.TEMPLATE_WITHIN_S = 0.1; starter.main()"
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "shorter.py", script, "--sock-name", tmp_path / ".ts.sock.1"],
        cwd=tmp_path,
        env=os.environ | {TEMPLATE_VARIABLE: str(tmp_path / "no.sock")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "The worker cannot be forked: the template does not answer" in done.stdout
    assert "[PID] by itself" in done.stdout
