"""Commands that change a server: where they run, and that one does not notice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from shipway.cli.background import NICE

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone has it")

ASIDE = """
import os, signal, sys, time
from shipway.cli.background import step_aside
step_aside()
"""


def aside(then: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ASIDE + then],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_it_yields_and_ends_with_the_same_words_and_code():
    process = aside("print(os.nice(0), os.getsid(0) == os.getpid()); sys.exit(3)")
    said, _ = process.communicate(timeout=20)
    assert said == f"{os.nice(0) + NICE} True\n"
    assert process.returncode == 3


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="a kernel without autogroup")
def test_all_of_its_session_yields_to_other_sessions():
    said, _ = aside("print(open('/proc/self/autogroup').read())").communicate(timeout=20)
    assert said.strip().endswith(f"nice {NICE}")


@pytest.mark.timing  # the signal may come before the command handles it
def test_ctrl_c_reaches_it():
    process = aside(
        "print('here', flush=True)\n"
        "try: time.sleep(60)\n"
        "except KeyboardInterrupt: print('stopped'); sys.exit(130)"
    )
    assert process.stdout and process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=20)
    assert (said, process.returncode) == ("stopped\n", 130)


def test_a_signal_that_ends_it_is_told_as_shells_do():
    process = aside("os.kill(os.getpid(), signal.SIGTERM)")
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM


def test_it_ends_with_who_started_it():
    process = aside("print(os.getpid(), flush=True); time.sleep(60)")
    assert process.stdout
    runs = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.communicate(timeout=20)
    deadline = time.monotonic() + 10
    while runs.is_running() and runs.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
