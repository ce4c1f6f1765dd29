"""Speedups over eager PyTorch, as numbers and in words."""

from collections.abc import Mapping

from shipway.artifact.certificate import Basis, Candidate, Latency, Speedup
from shipway.export.intervals import CONFIDENCE
from shipway.export.noise import Cost

_BASES: tuple[Basis, ...] = ("all runs", "processor time", "quiet runs")


def speedup(
    candidate: Candidate, eager: Mapping[str, Mapping[int, Latency]], shape: str
) -> Speedup | None:
    """Over eager at one shape, each at its best number of threads; None if one was not measured.

    From the turns in which both ran, if those numbers are the same; otherwise the quotient of the
    medians, with an interval from both intervals.
    """
    ours_by_threads, eager_by_threads = candidate.latency.get(shape), eager.get(shape)
    if not ours_by_threads or not eager_by_threads:
        return None
    threads, ours = _best(ours_by_threads)
    eager_threads, theirs = _best(eager_by_threads)
    if ours.speedup and threads == eager_threads:
        return ours.speedup
    known = None not in (ours.median_low_ms, theirs.median_low_ms)
    slow, fast = Cost.of(theirs), Cost.of(ours)
    return Speedup(
        value=slow.value / fast.value,
        low=slow.low / fast.high if known else None,
        high=slow.high / fast.low if known else None,
        turns=0,
        basis=min(
            (ours.basis or "quiet runs", theirs.basis or "quiet runs"),
            key=_BASES.index,
        ),
    )


def _best(by_threads: Mapping[int, Latency]) -> tuple[int, Latency]:
    return min(by_threads.items(), key=lambda each: each[1].median_ms)


def factor(found: Speedup) -> str:
    """The speedup as a figure: "5.0×", or a bound if the machine was not quiet."""
    if found.basis == "quiet runs":
        return f"{found.value:.1f}×"
    if found.low is None or found.high is None:
        return f"roughly {found.value:.1g}×"
    if found.basis == "processor time" and found.low >= 1:
        return f"at least {found.low:.1f}×"
    return f"{found.low:.1f} to {found.high:.1f}×"


def in_words(found: Speedup) -> str:
    """The speedup in words, with its interval if it is known and not yet said."""
    words = f"{factor(found)} speedup over eager PyTorch"
    if found.basis == "processor time":
        words += " on one thread"
    if found.basis == "quiet runs" and found.low is not None and found.high is not None:
        words += f", {CONFIDENCE:.0%} interval {found.low:.1f} to {found.high:.1f}"
    return words
