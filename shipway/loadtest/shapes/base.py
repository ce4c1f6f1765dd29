"""What every load shape tells the load generator."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar

from shipway.artifact import manifest


class LoadShape(manifest.Record, ABC):
    """When the requests of a load test are sent. `str()` names the load in tables.

    Moments are seconds on one monotonic clock.
    """

    kind: str
    """The name under which the shape is registered; it tells shapes apart in JSON."""

    is_open: ClassVar[bool]
    """Whether arrivals come by the clock, answered or not. In an open shape a request that finds
    every client busy waits, and its wait counts as latency."""
    explanation: ClassVar[str] = ""
    """A sentence for reports that says how its requests arrive; empty if `str()` says enough."""

    @abstractmethod
    def arrivals(
        self, start: float, end: float, now: Callable[[], float] = time.monotonic
    ) -> Iterator[float]:
        """The moments from `start` to `end` at which requests are to be sent, in order.

        For an open shape the next moment is taken as soon as the last one has passed. For any other
        it is taken when a client is free, so that `now()` is the moment of its last answer.
        """

    @abstractmethod
    def clients_at_start(self) -> int:
        """How many clients the load starts with."""

    @abstractmethod
    def clients_at_most(self) -> int:
        """How many clients there may be: an open shape adds one when all are busy."""

    def offered_rate(self) -> float | None:
        """Requests a second, if the shape has one rate that does not depend on the server."""
        return None

    def bench_option(self) -> str:
        """The option of `shipway bench` that repeats this load; empty if there is none."""
        return ""
