"""Signals that end a command."""

import signal
import subprocess
import sys

import pytest

CODE = """
import signal, time
from shipway.cli.signals import end_as_by_ctrl_c
{before}
end_as_by_ctrl_c()
try:
    print("here", flush=True)
    time.sleep(1 if {before!r} else 60)
    print("slept")
except KeyboardInterrupt:
    print("cleaned up")
"""


def started(before: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", CODE.format(before=before)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "here\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_lets_the_command_clean_up(number):
    process = started("")
    process.send_signal(number)
    assert process.communicate(timeout=20)[0] == "cleaned up\n"


def test_under_nohup_a_hangup_stays_ignored():
    process = started("signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=20)[0] == "slept\n"
