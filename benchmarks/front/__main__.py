"""What the front gains and costs, beside the path through TorchServe and other servers.

    python -m benchmarks.front [--seconds 4] [--rounds 3] [--only PART …]

tabular: a small table's program, one worker each, beside the path through TorchServe, FastAPI and
mosec; what the front costs; a worker killed under load. digits, texts: beside FastAPI with the same
program. photos: the share of the ceiling; a worker's memory and start. promotion: p99 at 70% of
capacity while versions are promoted. peers: photos beside all servers of `make bench-peers` with
the same program. Ratios are of what was measured in turns in one run. The last line is JSON.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.front import others, photos, promotions, tabular
from benchmarks.front.turns import Part
from benchmarks.peers.errors import PeerFailed
from benchmarks.study import RESULTS, Outcome, exit_on_sigterm, finish
from shipway.errors import ShipwayError
from shipway.files import atomic_write
from shipway.runtime.host import describe_host

Targets = Mapping[str, tuple[Callable[[float | None, float], Outcome], float]]

PARTS: dict[str, tuple[Callable[[Path, Part], dict[str, float]], Targets]] = {
    "tabular": (tabular.measure, tabular.TARGETS),
    "digits": (others.measure_digits, others.DIGITS_TARGETS),
    "texts": (others.measure_texts, others.TEXTS_TARGETS),
    "photos": (photos.measure, photos.TARGETS),
    "promotion": (promotions.measure, promotions.TARGETS),
    "peers": (photos.measure_peers, photos.PEER_TARGETS),
}


def main() -> None:
    """Measures the parts, writes front.json, and ends with the targets as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", default=list(PARTS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    exit_on_sigterm()
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    part = Part(seconds=given.seconds, rounds=given.rounds, console=console)
    found: dict[str, dict[str, float]] = {}
    for name in given.only:
        console.print(f"\n{name}")
        measure, _ = PARTS[name]
        with tempfile.TemporaryDirectory(prefix=f"front-{name}-") as temporary:
            try:
                found[name] = measure(Path(temporary), part)
            except (PeerFailed, ShipwayError) as error:  # the other parts are measured all the same
                console.print(f"{name} failed: {error}", markup=False)
                found[name] = {}
        console.print(" ".join(f"{key}={value:.3g}" for key, value in found[name].items()))
    write(given, found)
    finish(outcomes(found))


def write(given: argparse.Namespace, found: Mapping[str, Mapping[str, float]]) -> None:
    """front.json; parts that were not measured this time stay as they were."""
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "front.json"
    record: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
    about = {
        "host": describe_host().model_dump(),
        "seconds": given.seconds,
        "rounds": given.rounds,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    record |= {name: dict(figures) | about for name, figures in found.items()}
    kept = {name: record[name] for name in PARTS if name in record}
    atomic_write(path, json.dumps(kept, indent=1) + "\n")


def outcomes(found: Mapping[str, Mapping[str, float]]) -> dict[str, Outcome]:
    """The targets of the parts that were measured; what failed misses them."""
    return {
        f"{part}_{name}": compare(rounded(found[part].get(name)), bound)
        for part, (_, targets) in PARTS.items()
        if part in found
        for name, (compare, bound) in targets.items()
    }


def rounded(value: float | None) -> float | None:
    """To three digits, as it is compared and shown."""
    return None if value is None else float(f"{value:.3g}")


if __name__ == "__main__":
    try:
        main()
    except ShipwayError as error:
        sys.exit(f"error: {error}")
