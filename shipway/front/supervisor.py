"""Processes that are started again whenever they end."""

import math
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

RESTART_PAUSE_S = (0.0, 0.2, 1.0, 5.0)
"""Before each further start of a process that ended; the last for all that follow."""
USEFUL_WITHIN_S = 5.0
"""How long Envoy may take to listen, and how often it is asked whether it does."""
DIES_WITHIN_S = 1.0
"""How long a process that was killed may take to end."""
LASTS_S = 30.0
"""A process that ran for so long begins again with the first pause."""


class Supervisor:
    """A process that is started again whenever it ends."""

    def __init__(self, name: str, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._name = name
        self._start = start
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._again = self._useful = -math.inf
        self._ended = 0

    def look(self) -> None:
        """Starts the process if it does not run and its pause is over."""
        now = time.monotonic()
        if self._process is not None and self._process.poll() is not None:
            status = self._process.returncode
            self._process = None
            if status == os.EX_UNAVAILABLE:  # it has said why it cannot run on this machine
                self._again = math.inf
                return
            self._ended = 0 if now - self._started > LASTS_S else self._ended + 1
            pause = RESTART_PAUSE_S[min(self._ended, len(RESTART_PAUSE_S) - 1)]
            self._again = now + pause
            say(f"{self._name} ended with status {status}; it starts again in {pause:g} s")
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
            say(f"{self._name} {why}; restarting it")
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


def say(text: str) -> None:
    """Writes into the front's log. A full disk must not end what keeps the front."""
    with suppress(OSError):
        print(text, flush=True)
