"""What the generator's process reports once a second, as a line of JSON.

Moments are seconds since the warm-up ended; they are negative during the warm-up.
"""

from dataclasses import dataclass

import orjson


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What happened since the last tick."""

    at: float
    answers: list[tuple[float, int, int, float | None]]
    """Of each answer: its intended start, microseconds from there to its end, microseconds from its
    sending to its end, and the handler's milliseconds or None."""
    errors: list[tuple[int, str, str, str, str, int]]
    """Of each second and kind of error: that second, kind, status, type, message of
    the first, count."""
    cpu: float
    """Processor time as a share of one core."""
    busy: float
    """The share of time in which the event loop ran or waited for a core."""
    lags_us: list[int]
    """How late the event loop was for timers, in microseconds, a hundred samples a second."""
    clients: int
    waiting: int
    """Arrivals that are due and that no client has taken."""
    last: bool
    """Whether the load is over."""

    def line(self) -> bytes:
        """The tick as a line of JSON."""
        return orjson.dumps(self) + b"\n"

    @staticmethod
    def read(line: bytes) -> "Tick":
        """A tick from its line."""
        return Tick(**orjson.loads(line))
