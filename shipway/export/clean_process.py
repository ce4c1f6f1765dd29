"""Opens and runs programs in a process that imports neither the recipe nor what the recipe imports.

A server's worker is such a process. The process that builds programs is not: it has the operators
of every package that the recipe imports, torchvision's for example, and opens programs that no
worker can open.
"""

import multiprocessing
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

import shipway
from shipway.artifact.certificate import Kernels
from shipway.export.child_process import die_with
from shipway.export.errors import ChildLost, ProgramRefused
from shipway.plugins import load_plugins
from shipway.runtime.backends import BACKENDS
from shipway.runtime.backends.base import Outputs, Program, ProgramFile

CALL_SECONDS = 300
"""A program that takes longer to open, or to run one batch, counts as hanging."""
_START = "from shipway.export.clean_process import serve; serve({connection}, {parent})"


class CleanProcess:
    """A process of its own for programs. It starts when it is needed, and again after a crash."""

    def __init__(
        self, log: Path, plugins: Sequence[Path] = (), call_seconds: float = CALL_SECONDS
    ) -> None:
        """`log` is the file that its output is appended to. `plugins` are the files of the
        recipe's plugins, in a folder without other modules: a worker has them from the artifact,
        and nothing beside them."""
        self._log = log
        self._plugins = tuple(path.absolute() for path in plugins)
        self._call_seconds = call_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    @property
    def pid(self) -> int | None:
        """The number of the process, or None if there is none."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts the process, unless it runs, and does not wait until it is ready."""
        if self._process is not None and self._process.poll() is None:
            return
        self.kill()
        here, there = multiprocessing.Pipe()
        paths = (os.environ.get("PYTHONPATH", ""), str(Path(shipway.__path__[0]).parent))
        with self._log.open("ab") as log, there:
            self._process = subprocess.Popen(
                # -P: the working directory is not searched for modules.
                [sys.executable, "-P", "-c"]
                + [_START.format(connection=there.fileno(), parent=os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(there.fileno(),),
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
            )
        self._connection = here
        here.send(self._plugins)

    def open(self, runtime: str, file: ProgramFile, *, threads: int) -> "OpenedProgram":
        """Opens a program with the backend of the name `runtime`.

        Raises ProgramRefused with the reason, or ChildLost if the process crashed or hung.
        """
        return OpenedProgram(self, self.call("open", runtime, file, threads))

    def call(self, name: str, *arguments: object) -> Any:
        """The result of one of CALLS. Raises ProgramRefused or ChildLost."""
        self.start()
        assert self._connection is not None
        try:
            self._connection.send((name, arguments))
            if not self._connection.poll(self._call_seconds):
                self.kill()
                reason = f"it took longer than {self._call_seconds:g} seconds to open or to run"
                raise ChildLost(reason, self._log)
            succeeded, result = self._connection.recv()
        except (EOFError, OSError) as error:
            self.kill()
            raise ChildLost("it crashed the process that opened it", self._log) from error
        if not succeeded:
            raise ProgramRefused(result)
        return result

    def kill(self) -> None:
        """Ends the process, if there is one. The next call starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


class OpenedProgram:
    """A program that is open in a clean process. It is closed when its context ends.

    Each call raises ProgramRefused with the program's error, or ChildLost.
    """

    def __init__(self, process: CleanProcess, number: int) -> None:
        self._process = process
        self._number = number

    def run(self, inputs: Sequence[np.ndarray]) -> Outputs:
        """The outputs of one batch, one array for each, (rows, …)."""
        outputs: Outputs = self._process.call("run", self._number, list(inputs))
        return outputs

    def kernels(self, batch: Sequence[np.ndarray], input_names: Sequence[str]) -> Kernels | None:
        """The precisions in which one run of `batch` computed; None if the runtime hides them."""
        found: Kernels | None = self._process.call("kernels", self._number, batch, input_names)
        return found

    def onednn_kernels(self, batch: Sequence[np.ndarray]) -> Kernels:
        """What oneDNN logged of one run of `batch`, for a program that torch runs on the CPU."""
        found: Kernels = self._process.call("onednn_kernels", self._number, batch)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.pid is not None and not isinstance(error, ChildLost):
            self._process.call("close", self._number)


def one_line(error: BaseException) -> str:
    """An error in one line, for a table. Of a wrapped error it is the cause: exporters wrap errors
    in advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    first = next((line.strip() for line in plain.splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}"[:300]


# What follows runs in the clean process.

_open: dict[int, tuple[str, ProgramFile, Program]] = {}


def serve(connection: int, parent: int) -> None:
    """Answers calls until the other end is closed. `connection` is a file descriptor, `parent`
    the process with which this one is to end."""
    die_with(parent)
    calls = Connection(connection)
    try:
        problem = _prepare(calls.recv())
        while True:
            name, arguments = calls.recv()
            if problem is not None:
                calls.send((False, problem))
                continue
            try:
                answer = (True, CALLS[name](*arguments))
            except Exception as error:  # runtimes share no class of errors
                traceback.print_exc()
                answer = (False, one_line(error))
            calls.send(answer)
    except (EOFError, OSError):  # the other process has ended
        return


def _prepare(plugins: Sequence[Path]) -> str | None:
    """Imports the plugins, and torch, which takes seconds. Returns what failed, or None."""
    try:
        import torch  # noqa: F401 — most programs need it, and nothing waits for this process yet

        for path in plugins:
            load_plugins([path.stem], path.parent)
    except Exception as error:
        traceback.print_exc()
        return str(error)
    return None


def _open_program(runtime: str, file: ProgramFile, threads: int) -> int:
    number = max(_open, default=0) + 1
    _open[number] = runtime, file, BACKENDS.get(runtime).open(file, threads=threads)
    return number


def _run(number: int, inputs: list[np.ndarray]) -> Outputs:
    return _open[number][2].run(inputs)


def _kernels(
    number: int, batch: Sequence[np.ndarray], input_names: Sequence[str]
) -> Kernels | None:
    runtime, file, program = _open[number]
    return BACKENDS.get(runtime).kernels(file, program, batch, input_names)


def _onednn_kernels(number: int, batch: Sequence[np.ndarray]) -> Kernels:
    from shipway.runtime.backends.torch import of_torch  # for programs of torch alone

    return of_torch(lambda: _run(number, list(batch)))


def _close(number: int) -> None:
    del _open[number]


CALLS: dict[str, Callable[..., object]] = {
    "open": _open_program,
    "run": _run,
    "kernels": _kernels,
    "onednn_kernels": _onednn_kernels,
    "close": _close,
}
"""What a clean process can be asked for."""
