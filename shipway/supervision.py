"""Processes that are started again whenever they end, and how often that was."""

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from shipway.processes import began, runs

RESTART_PAUSE_S = (0.0, 0.2, 1.0, 5.0)
"""Before each further start of a process that ended; the last for all that follow."""
LASTS_S = 30.0
"""A process that ran for so long begins again with the first pause."""
USEFUL_WITHIN_S = 5.0
"""How long a process may take to be of use, and how often it is asked whether it is."""
DIES_WITHIN_S = 1.0
"""How long a process that was killed may take to end."""
LOOK_EVERY_S = 0.02
"""How often to look whether a process runs that is not a child of this one."""
LOG_BYTES = 10_000_000
"""Of a log, before it is rolled."""
DEATHS = "deaths"
"""The folder of `Deaths`, in a server's temporary folder."""


class Deaths:
    """How often processes have ended, by name. A file for each has a byte for each time, so that
    the numbers outlive whoever counts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def watch(self, name: str) -> None:
        """From now on the process is among the counted ones, if only with 0."""
        self._write(name, b"")

    def add(self, name: str) -> None:
        """Counts one more."""
        self._write(name, b".")

    def counts(self) -> dict[str, int]:
        """By name."""
        with suppress(OSError):
            return {path.name: path.stat().st_size for path in sorted(self._folder.iterdir())}
        return {}

    def _write(self, name: str, byte: bytes) -> None:
        with suppress(OSError):  # on a full disk a process that ended must still be started
            self._folder.mkdir(mode=0o700, exist_ok=True)
            with (self._folder / name).open("ab") as file:
                file.write(byte)


class Pauses:
    """How long to wait before each start of a process that ends again and again."""

    def __init__(self) -> None:
        self._ended = 0

    def after(self, ran_s: float) -> float:
        """Seconds until the next start of a process that has run for `ran_s`."""
        self._ended = 0 if ran_s > LASTS_S else self._ended + 1
        return RESTART_PAUSE_S[min(self._ended, len(RESTART_PAUSE_S) - 1)]


class Supervisor:
    """A process that is started again whenever it ends."""

    def __init__(
        self, name: str, start: Callable[[], subprocess.Popen[bytes]], deaths: Deaths
    ) -> None:
        self._name = name
        self._start = start
        self._deaths = deaths
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._again = self._useful = -math.inf
        self._pauses = Pauses()
        deaths.watch(name)

    def look(self) -> None:
        """Starts the process if it does not run and its pause is over."""
        now = time.monotonic()
        if self._process is not None and self._process.poll() is not None:
            status = self._process.returncode
            self._process = None
            if status == os.EX_UNAVAILABLE:  # it has said why it cannot run on this machine
                self._again = math.inf
                return
            pause = self._pauses.after(now - self._started)
            self._again = now + pause
            self._deaths.add(self._name)
            say(f"{self._name}: ended with status {status}; it starts again in {pause:g} s")
        if self._process is None and now >= self._again:
            self._started = now
            self._process = self._start()

    @property
    def started(self) -> float:
        """When it last was started, by `time.monotonic`."""
        return self._started

    def kill(self, why: str) -> None:
        """Ends the process at once, to be started again, and says `why`."""
        if self._process is not None:
            say(f"{self._name}: {why}; restarting it")
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):  # or it would be seen running once more
                self._process.wait(DIES_WITHIN_S)

    def end_useless(self, useful: Callable[[], bool]) -> None:
        """Ends the process, to be started again, if it is still not `useful` after a while."""
        now = time.monotonic()
        if self._process is None or now - max(self._started, self._useful) < USEFUL_WITHIN_S:
            return
        if useful():
            self._useful = now
        else:
            self.kill("is running but takes no requests")

    def end(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


class Keeper:
    """The process that starts this one again if it ends: itself started again if it ends."""

    def __init__(
        self, name: str, pid: int, start: Callable[[], subprocess.Popen[bytes]], deaths: Deaths
    ) -> None:
        """`pid` is the process that keeps this one, its parent. `start` starts another one."""
        self._name, self._pid, self._deaths = name, pid, deaths
        self._start = start
        self._another: Supervisor | None = None
        deaths.watch(name)

    def look(self) -> None:
        """Starts another keeper if there is none."""
        if self._another is None and os.getppid() != self._pid:
            say(f"{self._name}: has ended; another starts")
            self._deaths.add(self._name)
            self._another = Supervisor(self._name, self._start, self._deaths)
        if self._another:
            self._another.look()

    def end(self) -> None:
        """Ends the keeper that was started here, if there is one."""
        if self._another:
            self._another.end()


def keep(
    name: str,
    work: Callable[[int], None],
    goes_on: Callable[[], bool],
    deaths: Deaths,
    already: int = 0,
) -> None:
    """Has `work` done by a child process, and by another one whenever that ends, for as long as
    `goes_on`. SIGTERM ends both.

    `work` gets the id of this process. With `already`, that process does the work at first. If the
    first child ends with EX_UNAVAILABLE, since it cannot run on this machine, so does this process.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    keeper, child, pauses, starts = os.getpid(), 0, Pauses(), 0
    deaths.watch(name)
    try:
        if already:
            _wait_for(already)
            if goes_on():
                deaths.add(name)
                say(f"{name}: has ended; another starts")
            starts = 1
        while goes_on():
            starts += 1
            began_at = time.monotonic()
            child = os.fork()
            if not child:
                work(keeper)
                sys.exit(0)
            _, status = os.waitpid(child, 0)
            child, status = 0, os.waitstatus_to_exitcode(status)
            if status == os.EX_UNAVAILABLE and starts == 1:
                sys.exit(status)
            if status:
                deaths.add(name)
                say(f"{name}: ended with status {status}; another starts")
                time.sleep(pauses.after(time.monotonic() - began_at))
    finally:
        if child:
            os.kill(child, signal.SIGTERM)


def _wait_for(pid: int) -> None:
    """Returns when a process that is not a child of this one has ended."""
    since = began(pid)
    while runs(pid, since):
        time.sleep(LOOK_EVERY_S)


def say(text: str) -> None:
    """Writes into this process's log. A full disk must not end what supervises."""
    with suppress(OSError):
        print(text, flush=True)


def roll(log: Path) -> None:
    """Moves what a log has into LOG.1 if it has grown over LOG_BYTES. Whoever writes it has opened
    it to append, and goes on at its beginning; a line that is written meanwhile may be lost."""
    with suppress(OSError):
        if log.stat().st_size > LOG_BYTES:
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)
