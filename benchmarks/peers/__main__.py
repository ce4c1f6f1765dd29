"""This project beside other model servers, on the same machine, photos and load.

    python -m benchmarks.peers [--seconds 4] [--rounds 2] [--only SYSTEM …]

EfficientNet-Lite0 and real JPEGs over HTTP, compared twice: the same program and the same code
around it everywhere, which shows what a server costs; and each server as its own documentation
leads a newcomer with a PyTorch model, which shows what a user gets. Each server has an environment
of its own, made in .peers/ when it is missing. One server runs at a time, in turns, A B C A B C; it
must put the same classes first as the artifact before it is measured, under a closed loop of 1 and
of 16 clients. In the first comparison each may choose the better of one worker with all cores and
a worker a core, for each number of clients. The last line is JSON.
"""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.peers import table
from benchmarks.peers.expected import classes_of
from benchmarks.peers.systems import OURS, SYSTEMS, Comparison
from benchmarks.peers.turns import Turns
from benchmarks.stock import IMAGES
from benchmarks.study import RESULTS, Outcome, at_least, exit_on_sigterm, finish
from shipway.artifact.bundle import Artifact, open_artifact
from shipway.errors import ShipwayError
from shipway.files import atomic_write
from shipway.runtime.host import available_cores
from shipway.tasks.demo_inputs import jpegs

TITLES: dict[Comparison, str] = {
    "same_program": "The same program everywhere: what the server costs",
    "as_documented": "Each as its documentation leads: what a user gets",
}

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=2)
    others = [each.key for each in SYSTEMS if each is not OURS]
    parser.add_argument("--only", nargs="+", choices=others, metavar="SYSTEM", default=others)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    exit_on_sigterm()
    artifact = open_artifact(IMAGES)
    systems = [each for each in SYSTEMS if each is OURS or each.key in given.only]
    with tempfile.TemporaryDirectory(prefix="peers-") as temporary:
        photos = jpegs()
        turns = Turns(
            artifact=artifact,
            photos=photos,
            expected=classes_of(artifact, photos),
            folder=Path(temporary),
            seconds=given.seconds,
            console=console,
        )
        compared = {}
        for comparison, title in TITLES.items():
            console.print(f"\n{title}")
            compared[comparison] = turns.compare(comparison, systems, rounds=given.rounds)
    write(given.out, compared, about(artifact, given))
    finish(outcomes(compared))


def about(artifact: Artifact, given: argparse.Namespace) -> dict[str, Any]:
    return {
        "gpu": "none used",
        "processor": artifact.certificate.host.processor,
        "machine": platform.machine(),
        "cores": available_cores(),
        "python": platform.python_version(),
        "packages": artifact.manifest.packages,
        "program": artifact.manifest.chosen,
        "seconds": given.seconds,
        "rounds": given.rounds,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write(out: Path, compared: dict[Comparison, list[dict]], about: dict[str, Any]) -> None:
    """peers.json with everything, peers.md with the tables; the tables are printed too."""
    out.mkdir(parents=True, exist_ok=True)
    atomic_write(out / "peers.json", json.dumps(compared | about, indent=1) + "\n")
    text = (
        f"Measured {about['when'][:10]} on {about['cores']} cores, {about['processor']}; "
        f"{about['rounds']} rounds of {about['seconds']:g} s a load, medians, in brackets the "
        "least and the most.\n"
    )
    for comparison, made in compared.items():
        text += f"\n## {TITLES[comparison]}\n\n{table.markdown(made)}"
    atomic_write(out / "peers.md", text)
    console.print(f"\n{text}", markup=False)


def outcomes(compared: Mapping[Comparison, Sequence[Mapping[str, Any]]]) -> dict[str, Outcome]:
    """The target of each comparison: at least as many requests a second as the fastest peer."""
    found = {}
    for comparison, made in compared.items():
        ratios = [
            row["ratio_to_ours"]["median"]
            for row in made
            if row["system"] != OURS.name and row.get("ratio_to_ours")
        ]
        reached = round(1 / max(ratios), 3) if ratios else None
        found[f"{comparison}_vs_fastest_peer"] = at_least(reached, 1.0)
    return found


if __name__ == "__main__":
    try:
        main()
    except ShipwayError as error:
        sys.exit(f"error: {error}")
