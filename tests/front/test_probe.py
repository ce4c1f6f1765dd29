"""A template is asked whether it works, and nobody waits for its answer."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shipway.engines.torchserve import template
from shipway.front import probe
from shipway.front.probe import Probe
from tests.servers import until


@pytest.fixture
def running(tmp_path):
    """A template that imports nothing, and its socket."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(template.__file__).parent)!r})\n"
        "import template; template.IMPORTED = (); template.main()"
    )
    path = tmp_path / "template.sock"
    with subprocess.Popen([sys.executable, "-c", code, str(path)]) as process:
        until(path.exists)
        yield process, path
        process.kill()


def hangs(asked: Probe, started: float) -> bool:
    asked.look()
    return asked.hangs(started)


def test_a_template_that_is_stopped_hangs_and_one_that_goes_on_does_not(running, monkeypatch):
    process, path = running
    monkeypatch.setattr(probe, "ASK_EVERY_S", 0.05)
    monkeypatch.setattr(probe, "HANGS_AFTER_S", 0.5)
    started, asked = time.monotonic(), Probe(path)
    while time.monotonic() < started + 1.5:
        assert not hangs(asked, started)
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    until(lambda: hangs(asked, started), 3)
    process.send_signal(signal.SIGCONT)
    until(lambda: not hangs(asked, started), 3)


def test_one_that_starts_has_more_time(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "ASK_EVERY_S", 0.01)
    monkeypatch.setattr(probe, "HANGS_AFTER_S", 0.05)
    monkeypatch.setattr(probe, "STARTS_WITHIN_S", 0.6)
    started, asked = time.monotonic(), Probe(tmp_path / "template.sock")
    until(lambda: hangs(asked, started), 3)
    assert time.monotonic() - started > 0.6


def test_an_answer_that_nobody_has_read_yet_counts(running, monkeypatch):
    """Whoever asks may be busy for longer than the limit."""
    _, path = running
    monkeypatch.setattr(probe, "HANGS_AFTER_S", 0.2)
    started, asked = time.monotonic(), Probe(path)
    asked.look()
    time.sleep(0.5)
    assert not hangs(asked, started)


def test_one_that_takes_no_more_connections_is_not_waited_for(tmp_path):
    path = tmp_path / "template.sock"
    with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as first:
        full.bind(str(path))
        full.listen(0)
        first.connect(str(path))
        began = time.monotonic()
        Probe(path).look()
        assert time.monotonic() - began < 0.5
