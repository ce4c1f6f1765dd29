"""The open loop: requests arrive at a rate, whether others are answered or not."""

import random
import time
from collections.abc import Callable, Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from shipway.loadtest.shapes import SHAPES
from shipway.loadtest.shapes.base import LoadShape


@SHAPES.register("open")
class OpenLoop(LoadShape):
    """Requests arrive as a Poisson process, independent of each other and of the answers."""

    kind: Literal["open"] = "open"
    is_open: ClassVar[bool] = True
    explanation: ClassVar[str] = "Requests at a given rate arrive at random, as a Poisson process."
    rate: Annotated[float, Field(gt=0)]
    """Arrivals a second."""
    seed: int = 0
    """The same seed gives the same arrivals."""
    most_clients: Annotated[int, Field(ge=1)] = 500
    """Requests under way at once. An arrival beyond that waits, and its wait counts."""

    def __str__(self) -> str:
        return f"{self.rate:g} requests/s"

    def arrivals(
        self, start: float, end: float, now: Callable[[], float] = time.monotonic
    ) -> Iterator[float]:
        """With exponentially distributed gaps between them."""
        chance = random.Random(self.seed)
        moment = start
        while (moment := moment + chance.expovariate(self.rate)) < end:
            yield moment

    def clients_at_start(self) -> int:
        """None: the first arrival brings the first client."""
        return 0

    def clients_at_most(self) -> int:
        """`most_clients`."""
        return self.most_clients

    def offered_rate(self) -> float | None:
        """Arrivals a second."""
        return self.rate

    def bench_option(self) -> str:
        """`--rate R`."""
        return f"--rate {self.rate:g}"
