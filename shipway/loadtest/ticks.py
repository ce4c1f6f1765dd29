"""What the generator's process tells of itself once a second, as a line of JSON.

Moments are seconds since the start of what is measured; negative ones are the warm-up's.
"""

from dataclasses import dataclass

import orjson


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What happened since the last one."""

    at: float
    answers: list[tuple[float, int, int, float | None]]
    """Intended start, microseconds from then to the end, microseconds from the sending to the end,
    the handler's own milliseconds where it tells them."""
    errors: list[tuple[int, str, str, str, str, int]]
    """Second of the intended start, kind, status, type, message of the first, how many."""
    cpu: float
    """Processor time over time: 1 is a whole core."""
    busy: float
    """The share of time in which the event loop ran, or had to wait for a core to run on."""
    lags_us: list[int]
    """How late the event loop was for a timer, a hundred times a second."""
    clients: int
    waiting: int
    """Arrivals that no client has taken yet."""
    last: bool
    """Nothing is left to come of this load."""

    def line(self) -> bytes:
        return orjson.dumps(self) + b"\n"

    @staticmethod
    def read(line: bytes) -> "Tick":
        return Tick(**orjson.loads(line))
