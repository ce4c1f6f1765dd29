"""Whether the process that workers are forked from still answers."""

import socket
import struct
import time
from contextlib import suppress
from pathlib import Path

ASK_EVERY_S = 1.0
STARTS_WITHIN_S = 60.0
"""How long it may take to import everything."""
HANGS_AFTER_S = 5.0
"""After this time without an answer it hangs. A fork takes some 20 ms."""
NOTHING = struct.pack("!Q", 0)
"""An order of no bytes. It is refused, as any that is not whole: an answer all the same."""


class Probe:
    """Asks a template again and again. Nothing here waits, so that one that hangs keeps nobody from
    looking after the rest."""

    def __init__(self, path: Path) -> None:
        """`path` is the socket at which it takes orders."""
        self._path = path
        self._connection: socket.socket | None = None
        self._asked = self._answered = float("-inf")
        self._waits_since: float | None = None
        """When it was first asked of what it has not answered since."""

    def look(self) -> None:
        """Takes an answer that has arrived, or asks again."""
        now = time.monotonic()
        if self._connection is None and now - self._asked < ASK_EVERY_S:
            return
        try:
            if self._connection is None:
                self._ask(now)
            elif self._connection.recv(1):
                self._answered, self._waits_since = now, None
                self._hang_up()
            else:
                self._hang_up()
        except BlockingIOError:  # no answer yet
            pass
        except OSError:
            self._hang_up()

    def hangs(self, started: float) -> bool:
        """Whether a template that was `started` then gives no answer for too long."""
        if self._waits_since is None:
            return False
        limit_s = STARTS_WITHIN_S if self._answered < started else HANGS_AFTER_S
        return time.monotonic() - max(self._waits_since, started) > limit_s

    def _ask(self, now: float) -> None:
        self._asked = now
        self._waits_since = self._waits_since or now
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        try:
            connection.connect(str(self._path))
            connection.sendall(NOTHING)
        except OSError:  # it is not there yet, or so many wait that nobody else may
            connection.close()
            return
        self._connection = connection

    def _hang_up(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
            self._connection = None
