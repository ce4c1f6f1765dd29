"""The closed loop: as many requests under way as there are clients."""

import time
from collections.abc import Callable, Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from shipway.loadtest.shapes import SHAPES
from shipway.loadtest.shapes.base import LoadShape


@SHAPES.register("closed")
class ClosedLoop(LoadShape):
    """Each client sends its next request when its last one is answered."""

    kind: Literal["closed"] = "closed"
    is_open: ClassVar[bool] = False
    clients: Annotated[int, Field(ge=1)]

    def __str__(self) -> str:
        return "1 client" if self.clients == 1 else f"{self.clients} clients"

    def arrivals(
        self, start: float, end: float, now: Callable[[], float] = time.monotonic
    ) -> Iterator[float]:
        """At once, whenever a client is free."""
        while (moment := now()) < end:
            yield moment

    def clients_at_start(self) -> int:
        """All of them."""
        return self.clients

    def clients_at_most(self) -> int:
        """Those it starts with."""
        return self.clients

    def bench_option(self) -> str:
        """`--clients N`."""
        return f"--clients {self.clients}"
