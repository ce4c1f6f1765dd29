"""What the measurements support if other programs disturbed them.

Latencies are by program, shape and number of threads, as in a certificate.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from shipway.artifact.certificate import Certificate, Latency
from shipway.export.measure import RUNS_A_TURN, TURNS_FOR_ALL

ByThreads = Mapping[int, Latency]
Latencies = dict[str, dict[str, dict[int, Latency]]]


def sound_threads(latencies: Latencies, shapes: tuple[str, ...], always: str) -> set[int]:
    """The numbers of threads at which all that may be the fastest, and `always`, are sound.

    Programs that were left out early are slower than others, however disturbed.
    """
    counts = {count for each in latencies.values() for shape in shapes for count in each[shape]}
    unsound = {
        count
        for name, each in latencies.items()
        for shape in shapes
        for count, latency in each[shape].items()
        if not latency.sound and (name == always or _took_all_turns(latency))
    }
    return counts - unsound


def comparable(latencies: Latencies, shapes: tuple[str, ...], always: str) -> Latencies:
    """The latencies at the numbers of threads that are sound; all if none is.

    A disturbed latency is not compared with an undisturbed one, so it is left out for all.
    """
    kept = sound_threads(latencies, shapes, always)
    if not kept:
        return latencies
    return {
        name: {
            shape: {count: one for count, one in by_threads.items() if count in kept}
            for shape, by_threads in by_shape.items()
        }
        for name, by_shape in latencies.items()
        if all(kept & set(by_threads) for by_threads in by_shape.values())
    }


def _took_all_turns(latency: Latency) -> bool:
    return latency.runs > TURNS_FOR_ALL * RUNS_A_TURN


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an objective minimizes, and the 95% interval of it."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, latency: Latency) -> "Cost":
        """The median in ms; a certificate without intervals has none."""
        low, high = latency.median_low_ms, latency.median_high_ms
        middle = latency.median_ms
        return cls(
            value=middle,
            low=middle if low is None else low,
            high=middle if high is None else high,
        )


def preferred(costs: Mapping[str, Cost], lost: Callable[[str], float]) -> tuple[str, list[str]]:
    """The best, and the others that the measurements do not tell apart from the cheapest.

    Among those whose intervals overlap with that of the cheapest, the one that loses least is the
    best. Points are compared to two decimals, the rest is rounding.
    """
    cheapest = min(costs, key=lambda name: costs[name].value)
    tied = [name for name in costs if costs[name].low <= costs[cheapest].high]
    best = min(tied, key=lambda name: (round(max(0.0, lost(name)), 2), costs[name].value))
    return best, [name for name in tied if name != best]


def runs_in_words(latencies: Iterable[Latency]) -> str:
    """How many of the runs were quiet: "610 of 640 runs quiet"; empty if that is not known."""
    known = [each for each in latencies if each.quiet_runs is not None]
    if not known:
        return ""
    quiet = sum(each.quiet_runs or 0 for each in known)
    return f"{quiet} of {sum(each.runs for each in known)} runs quiet"


def notice(certificate: Certificate, chosen: str) -> str | None:
    """What a reader has to know first if the machine never got quiet, or None."""
    decisive = [
        latency
        for table in (certificate.eager, certificate.candidates[chosen].latency)
        for shape in certificate.shapes
        for latency in table.get(shape, {}).values()
    ]
    bases = {latency.basis for latency in decisive} - {None, "quiet runs"}
    if not bases:
        return None
    words = runs_in_words(decisive)
    if "all runs" in bases:
        basis = "All runs count, so latencies are too high and speedups may be wrong"
    else:
        basis = (
            "Where too few were quiet, latencies are the processor time of one thread, and "
            "speedups are bounds"
        )
    return (
        f"The machine was not quiet during the measurement ({words} of eager and of the chosen "
        f"program). {basis}. Choose again when nothing else runs: shipway export --rechoose."
    )
