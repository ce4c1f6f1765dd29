"""Processes that run, have ended, or have got the id of another."""

import os
import subprocess
import sys

from shipway.processes import began, runs


def test_a_process_runs_until_it_ends_whether_or_not_it_is_waited_for():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert runs(process.pid) and began(process.pid) >= began(os.getpid()) > 0
    process.kill()
    while runs(process.pid):  # until it is a zombie
        pass
    process.wait()
    assert not runs(process.pid) and began(process.pid) == 0


def test_another_process_with_the_same_id_is_told_from_it():
    since = began(os.getpid())
    assert runs(os.getpid(), since)
    assert not runs(os.getpid(), since - 1)
