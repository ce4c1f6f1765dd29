"""Every fault, done to a real server under load: what is promised, what is measured.

    python -m tests.faults [--front on|off|both] [--only REGEX] [--every 1] [--rounds 3]
        [--times 1] [--write]

Of the rounds the worst counts. `--write` puts the tables into docs/reliability.md. The last line is
JSON, with a target for each fault; the exit code is 1 if a promise was not kept.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.live import Live
from rich.table import Table

from benchmarks.study import at_most, exit_on_sigterm, finish
from shipway.runtime.host import describe_host
from tests.conftest import exported
from tests.faults.faults import FAULTS
from tests.faults.front_faults import FRONT_FAULTS
from tests.faults.measure import Fault, Measured, do
from tests.faults.sites import NO_SMALL_DISKS, open_site
from tests.servers import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "reliability.md"
END = "<!-- until here -->\n"
FRONTS = {"on": (True,), "off": (False,), "both": (False, True)}

# Into a file the table may be as wide as it is; 80 columns would fold it into ribbons.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


@dataclass(frozen=True, slots=True)
class Verdict:
    fault: Fault
    front: bool
    rounds: list[Measured]
    """None of them if it was skipped."""
    times: float = 1.0
    """How many times as long as promised a round may take."""

    @property
    def complaints(self) -> list[str]:
        return sorted({each for one in self.rounds for each in one.against(self.fault, self.times)})

    @property
    def lost(self) -> str:
        """In the worst round, and as what."""
        counts = [one.lost + one.lost_beside for one in self.rounds]
        worst = max(counts, key=lambda each: each.total())
        kinds = ", ".join(sorted(worst))
        return f"{worst.total()} ({kinds})" if worst else "0"

    @property
    def back(self) -> str:
        return f"{max(one.back_s for one in self.rounds):.1f} s"

    @property
    def longest(self) -> str:
        return f"{max(one.longest_s for one in self.rounds):.1f} s"


def main() -> NoReturn:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--front", choices=FRONTS, default="both", help="the server's `front`")
    parser.add_argument("--only", default="", metavar="REGEX", help="in the name of a fault")
    parser.add_argument("--every", type=int, default=1, help="only every so many-th fault")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=float, default=1.0, help="as long as promised is allowed")
    parser.add_argument("--write", action="store_true", help=f"the table into {DOCUMENT.name}")
    given = parser.parse_args()
    exit_on_sigterm()
    verdicts: list[Verdict] = []
    with (
        tempfile.TemporaryDirectory(prefix="shipway-faults-") as folder,
        Live(_table(verdicts), console=console, auto_refresh=False) as live,
    ):
        table = exported("tiny_table_recipe.py", Path(folder) / "exported")
        for front in FRONTS[given.front]:
            named = [each for each in faults_of(front) if re.search(given.only, each.name)]
            faults = named[:: given.every]
            if not faults:
                continue
            site_folder = Path(folder) / ("on" if front else "off")
            site_folder.mkdir()
            with open_site(table, site_folder, front=front) as site:
                # One after the other in each round: a version whose workers die often in a minute
                # is taken out of service.
                mine = [Verdict(fault, front, [], given.times) for fault in faults]
                verdicts += mine
                for _ in range(given.rounds):
                    for verdict in mine:
                        if site.has_small_disks or not verdict.fault.fills_a_disk:
                            verdict.rounds.append(do(verdict.fault, site))
                        live.update(_table(verdicts), refresh=True)
                        _tell(verdict)
    if not console.is_terminal:
        console.line()  # rich ends its last line on terminals only
    if given.write:
        write(verdicts, given.rounds)
    finish({_name(each): at_most(len(each.complaints), 0) for each in verdicts if each.rounds})


def faults_of(front: bool) -> list[Fault]:
    """Those that can be done to a server with the front, or without it."""
    return [*FAULTS, *FRONT_FAULTS] if front else list(FAULTS)


def _name(verdict: Verdict) -> str:
    return f"{verdict.fault.name}, front={'on' if verdict.front else 'off'}"


def _tell(verdict: Verdict) -> None:
    """Where the table is printed at the end only: that another fault is done."""
    if not console.is_terminal:
        said = "; ".join(verdict.complaints) or "kept"
        said = said if verdict.rounds else NO_SMALL_DISKS
        print(f"{_name(verdict)}: {said}", file=sys.stderr, flush=True)


def _table(verdicts: Sequence[Verdict]) -> Table:
    table = Table(box=None, pad_edge=False, row_styles=["", "dim"])
    for title in ("fault", "front", "promised", "lost", "back", "longest wait", "verdict"):
        table.add_column(title, overflow="fold")
    for each in verdicts:
        front = "on" if each.front else "off"
        if not each.rounds:
            why = NO_SMALL_DISKS if each.fault.fills_a_disk else ""  # or it is still to be done
            table.add_row(each.fault.name, front, each.fault.promise, "", "", "", why)
            continue
        said = "; ".join(each.complaints)
        verdict = f"[red]not kept: {said}" if said else "[green]kept"
        name, promise = each.fault.name, each.fault.promise
        table.add_row(name, front, promise, each.lost, each.back, each.longest, verdict)
    return table


def write(verdicts: Sequence[Verdict], rounds: int) -> None:
    """Puts what was measured into the document, between its marks: a table for each `front`."""
    host = describe_host()
    text = DOCUMENT.read_text()
    for front in {each.front for each in verdicts}:
        word = "on" if front else "off"
        head, start, rest = text.partition(f"<!-- measured front={word} -->\n")
        _, end, tail = rest.partition(END)
        lines = [
            f"Measured on {datetime.now(UTC):%Y-%m-%d}, {host.cores} cores of {host.processor}, "
            f"{host.memory_gb:g} GB, by `python -m tests.faults --front {word} --rounds {rounds} "
            "--write`:",
            "",
            "| fault | promised | lost | back | longest wait |",
            "|---|---|---|---|---|",
            *(
                f"| {each.fault.name} | {each.fault.promise} | {each.lost} | {each.back} "
                f"| {each.longest} |"
                for each in verdicts
                if each.front == front and each.rounds
            ),
            "",
        ]
        text = head + start + "\n".join(lines) + end + tail
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    main()
