"""A promotion at 70% of capacity: how much longer than before a request takes at p99."""

from pathlib import Path

from benchmarks import promotion
from benchmarks.front.turns import Part
from benchmarks.stock import IMAGES
from benchmarks.study import at_most
from shipway.artifact.bundle import open_artifact

TARGETS = {"p99_vs_steady": (at_most, 1.2), "errors": (at_most, 0)}


def measure(folder: Path, part: Part) -> dict[str, float]:
    """The ratio of the 99th percentiles, over `part.rounds` promotions."""
    found = promotion.promoted(open_artifact(IMAGES), folder, part.rounds)
    return {
        "p99_vs_steady": found["ratio"],
        "p99_vs_steady_from_the_workers_start": found["ratio_from_the_workers_start"],
        "errors": found["errors"],
    }
