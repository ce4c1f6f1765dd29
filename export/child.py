"""A worker process that is replaced when it dies or hangs."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from export import worker
from export.errors import ChildLost

CALL_SECONDS = 900
"""After this long a call counts as hanging."""

T = TypeVar("T")


class Child:
    """Calls functions of export/worker.py in another process."""

    def __init__(self, assignment: worker.Assignment, call_seconds: float = CALL_SECONDS) -> None:
        self._assignment = assignment
        self._call_seconds = call_seconds
        self._pool: ProcessPoolExecutor | None = None

    def run(self, call: Callable[..., T], *arguments: object) -> T:
        """The function's result, or what it raised; raises ChildLost if it crashed or hung."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                1,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=worker.begin,
                initargs=(self._assignment,),
            )
        try:
            return self._pool.submit(call, *arguments).result(self._call_seconds)
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
        """Ends the process whatever it is doing: one that hangs would not hear anything gentler."""
        if self._pool is not None:
            for process in list(self._pool._processes.values()):
                process.kill()
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


@contextmanager
def child_process(assignment: worker.Assignment) -> Iterator[Child]:
    child = Child(assignment)
    try:
        yield child
    except BaseException:
        child.kill()
        raise
    child.end()
