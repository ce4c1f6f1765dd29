"""A child process that hangs or dies is replaced."""

import os
import time

import psutil
import pytest

from shipway.export.child_process import Child, child_process
from shipway.export.errors import BadInputs, ChildLost


@pytest.fixture
def child(tmp_path):
    made = Child(Nothing(log=tmp_path / "log"), call_seconds=60)
    yield made
    made.kill()


class Nothing:
    """An assignment that needs no preparation."""

    def __init__(self, log) -> None:
        self.log = log

    def begin(self) -> None:
        pass


def test_a_child_that_hangs_is_ended_and_replaced(child):
    pid = child.run(os.getpid)
    child._call_seconds = 1.5  # it has begun: what follows takes no time, or hangs
    with pytest.raises(ChildLost, match=r"longer than 1\.5 seconds"):
        child.run(time.sleep, 60)
    assert not psutil.pid_exists(pid)
    child._call_seconds = 60
    assert child.run(os.getpid) != pid


def test_a_child_that_dies_is_replaced(child):
    with pytest.raises(ChildLost, match="crashed"):
        child.run(os._exit, 9)
    assert child.run(os.getpid) > 0


class Failing(Nothing):
    def begin(self) -> None:
        raise BadInputs("The module has no inputs.")


def test_an_error_of_the_assignment_is_raised_by_every_call(tmp_path):
    child = Child(Failing(log=tmp_path / "log"))
    for _ in range(2):
        with pytest.raises(BadInputs, match=r"^The module has no inputs\.$"):
            child.run(os.getpid)
    child.end()


def test_what_the_child_prints_is_in_its_log(tmp_path):
    with child_process(Nothing(log=tmp_path / "log")) as child:
        child.run(print, "from the child")
    assert "from the child" in (tmp_path / "log").read_text()


def test_an_error_of_the_call_is_raised_here_and_ends_the_child(tmp_path):
    with pytest.raises(ZeroDivisionError), child_process(Nothing(log=tmp_path / "log")) as child:
        pid = child.run(os.getpid)
        child.run(divmod, 1, 0)
    assert not psutil.pid_exists(pid)
