"""A worker's progress, in a file that another process reads: whether it works, and since when.

A process that hangs cannot say so itself: its threads may all be stopped, or wait for a lock.
"""

import logging
import mmap
import signal
import struct
import time
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

_PLACES = struct.Struct("<dd")
DUMP_SIGNAL = signal.SIGUSR2
"""A worker that gets it writes to its log where each of its threads is, whatever they do."""
BEAT_EVERY_S = 0.5
"""How often an event loop says that it runs."""
FROZEN_AFTER_S = 15.0
"""When an event loop that has not said so counts as stopped. What it does takes milliseconds."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What the file holds, in seconds of `time.monotonic`, which is one clock for all processes."""

    beat: float
    """When the event loop last ran."""
    batch_began: float
    """When the batch that runs began; 0 if none does."""

    def hangs(self, within_s: float, now: float) -> bool:
        """Whether a batch takes longer than it may, or the event loop has stopped."""
        batch = bool(self.batch_began) and now - self.batch_began > within_s
        return batch or now - self.beat > FROZEN_AFTER_S


class ProgressFile:
    """The worker's side. Each place is written as a whole: 8 bytes, aligned."""

    def __init__(self, path: Path) -> None:
        try:
            path.write_bytes(_PLACES.pack(time.monotonic(), 0.0))
            with path.open("r+b") as file:
                self._mapped = mmap.mmap(file.fileno(), _PLACES.size)
        except OSError as error:  # a full disk: it serves all the same
            logger.warning("a worker that hangs will not be noticed: %s", error)
            path.unlink(missing_ok=True)
            self._mapped = mmap.mmap(-1, _PLACES.size)

    def beat(self) -> None:
        """Says that the event loop runs."""
        struct.pack_into("<d", self._mapped, 0, time.monotonic())

    def begin(self) -> None:
        """Says that a batch begins."""
        struct.pack_into("<d", self._mapped, 8, time.monotonic())

    def end(self) -> None:
        """Says that no batch runs."""
        struct.pack_into("<d", self._mapped, 8, 0.0)


def read_progress(path: Path) -> Progress | None:
    """What a worker says of itself; None if it has not said anything."""
    try:
        return Progress(*_PLACES.unpack(path.read_bytes()))
    except (OSError, struct.error):
        return None
