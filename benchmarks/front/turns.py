"""Servers that are all there, measured in turns."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from benchmarks.front.wrk import Wrk
from benchmarks.peers.table import MANY, Sample
from shipway.engines.torchserve.temporary import ServedModel

WARM_S, MOST_WARM_UPS = 4.0, 10
GROWS = 1.03
"""A server whose rate grows by less from one warm-up to the next is warm: Java, say, has compiled
what it runs most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """How a part is measured."""

    seconds: float
    """Of each load."""
    rounds: int
    console: Console

    def say(self, what: str, sample: Sample) -> None:
        """Prints a line about one load."""
        self.console.print(
            f"{what}: {sample.rate:,.0f} a second, p50 {sample.p50_ms:.2f} ms, p99 "
            f"{sample.p99_ms:.2f} ms, errors {sample.errors}"
        )


def warm(wrk: Wrk, served: ServedModel) -> None:
    """Lets a server answer until that makes it no faster."""
    rate = 0.0
    for _ in range(MOST_WARM_UPS):
        before, rate = rate, wrk.load(served, MANY, WARM_S).rate
        if rate < before * GROWS:
            return


def in_turns(
    part: Part, servers: Mapping[str, tuple[Wrk, ServedModel]], clients: Sequence[int]
) -> dict[tuple[str, int], list[Sample]]:
    """A sample a round, by the server's name and the number of clients, each under its own load."""
    samples: dict[tuple[str, int], list[Sample]] = {}
    for turn in range(part.rounds):
        for name, (wrk, served) in servers.items():
            for count in clients:
                sample = wrk.load(served, count)
                samples.setdefault((name, count), []).append(sample)
                part.say(f"{turn + 1}: {name}, {count} client(s)", sample)
    return samples


def median_ratio(ours: Sequence[Sample], others: Sequence[Sample], value: str) -> float:
    """Of each round, and of them the median."""
    return statistics.median(
        getattr(one, value) / getattr(other, value) for one, other in zip(ours, others, strict=True)
    )
