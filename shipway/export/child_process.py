"""A child process that runs calls and is replaced when it crashes or hangs."""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from shipway.export.errors import ChildLost

CALL_SECONDS = 900
"""A call that takes longer counts as hanging."""

T = TypeVar("T")


class Assignment(Protocol):
    """What the child process needs to begin; it is pickled and sent once."""

    @property
    def log(self) -> Path:
        """The file that stdout and stderr of the process are appended to."""
        ...

    def begin(self) -> None:
        """Runs in the child process, before any call."""
        ...


class Child:
    """Calls functions in a child process that has begun its assignment."""

    def __init__(self, assignment: Assignment, call_seconds: float = CALL_SECONDS) -> None:
        self._assignment = assignment
        self._call_seconds = call_seconds
        self._pool: ProcessPoolExecutor | None = None

    def run(self, call: Callable[..., T], *arguments: object) -> T:
        """The function's result.

        Raises its error, that of the assignment's `begin`, or ChildLost if it crashed or hung.
        """
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                1,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
                initargs=(self._assignment, os.getpid()),
            )
        try:
            return self._pool.submit(_call, call, *arguments).result(self._call_seconds)
        except BrokenProcessPool as error:
            self.kill()
            raise ChildLost("its process crashed", self._assignment.log) from error
        except TimeoutError as error:
            self.kill()
            reason = f"it took longer than {self._call_seconds:g} seconds"
            raise ChildLost(reason, self._assignment.log) from error

    def end(self) -> None:
        """Lets the process end; the next call starts another."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def kill(self) -> None:
        """Kills the process: one that hangs reacts to nothing else."""
        if self._pool is not None:
            for process in list(self._pool._processes.values()):
                process.kill()
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with(parent: int) -> None:
    """Ends this process when the thread of its parent process that started it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent was killed before prctl
        os._exit(1)


def _begin(assignment: Assignment, parent: int) -> None:
    # If the exporting process is killed, a compilation must not continue without it.
    die_with(parent)
    log = os.open(assignment.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):  # compilers and exporters print
        os.dup2(log, stream)
    global _failed
    try:
        assignment.begin()
    except Exception as error:  # an initializer that raises looks like a crash to the parent
        _failed = error


_failed: Exception | None = None
"""What the assignment raised in `begin`."""


def _call(call: Callable[..., T], *arguments: object) -> T:
    if _failed is not None:
        raise _failed
    return call(*arguments)


@contextmanager
def child_process(assignment: Assignment) -> Iterator[Child]:
    """A child process for the assignment; it ends with the context, and is killed on an error."""
    child = Child(assignment)
    try:
        yield child
    except BaseException:
        child.kill()
        raise
    child.end()
