"""Every fault, done to a real server under load: what is promised, what is measured.

    python -m tests.faults [--only WORDS] [--rounds 3] [--times 1] [--write]

Of the rounds the worst counts. `--write` puts the table into docs/reliability.md. The last line is
JSON; the exit code is 1 if a promise was not kept.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from benchmarks.study import exit_on_sigterm
from shipway.runtime.host import describe_host
from tests.conftest import exported
from tests.faults.faults import FAULTS
from tests.faults.measure import Fault, Measured, do
from tests.faults.sites import NO_SMALL_DISKS, Site, open_site
from tests.servers import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "reliability.md"
START, END = "<!-- measured -->\n", "<!-- until here -->\n"

# Into a file the table may be as wide as it is; 80 columns would fold it into ribbons.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


@dataclass(frozen=True, slots=True)
class Verdict:
    fault: Fault
    rounds: Sequence[Measured]
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="WORDS", help="in the name of a fault")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=float, default=1.0, help="as long as promised is allowed")
    parser.add_argument("--write", action="store_true", help=f"the table into {DOCUMENT.name}")
    given = parser.parse_args()
    exit_on_sigterm()
    faults = [each for each in FAULTS if given.only in each.name]
    verdicts: list[Verdict] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shipway-faults-")))
        with console.status("Exporting a small model and starting a server …"):
            (folder / "site").mkdir()
            table = exported("tiny_table_recipe.py", folder / "exported")
            site = stack.enter_context(open_site(table, folder / "site"))
        with Live(_table(verdicts), console=console, auto_refresh=False) as live:
            for fault in faults:
                verdicts.append(_done(fault, site, given.rounds, given.times))
                live.update(_table(verdicts), refresh=True)
        if not console.is_terminal:
            console.line()  # rich ends its last line on terminals only
    if given.write:
        write(verdicts, given.rounds)
    broken = {each.fault.name: each.complaints for each in verdicts if each.complaints}
    skipped = [each.fault.name for each in verdicts if not each.rounds]
    kept = len(verdicts) - len(broken) - len(skipped)
    print(json.dumps({"kept": kept, "not_kept": broken, "skipped": skipped}))
    return 1 if broken else 0


def _done(fault: Fault, site: Site, rounds: int, times: float) -> Verdict:
    if fault.fills_a_disk and not site.has_small_disks:
        return Verdict(fault, ())
    return Verdict(fault, [do(fault, site) for _ in range(rounds)], times)


def _table(verdicts: Sequence[Verdict]) -> Table:
    table = Table(box=None, pad_edge=False, row_styles=["", "dim"])
    for title in ("fault", "promised", "lost", "back", "longest wait", "verdict"):
        table.add_column(title, overflow="fold")
    for each in verdicts:
        if not each.rounds:
            table.add_row(each.fault.name, each.fault.promise, "", "", "", NO_SMALL_DISKS)
            continue
        said = "; ".join(each.complaints)
        verdict = f"[red]not kept: {said}" if said else "[green]kept"
        name, promise = each.fault.name, each.fault.promise
        table.add_row(name, promise, each.lost, each.back, each.longest, verdict)
    return table


def write(verdicts: Sequence[Verdict], rounds: int) -> None:
    """Puts what was measured into the document, between its two marks."""
    host = describe_host()
    head, _, rest = DOCUMENT.read_text().partition(START)
    _, _, tail = rest.partition(END)
    lines = [
        f"Measured on {datetime.now(UTC):%Y-%m-%d}, {host.cores} cores of {host.processor}, "
        f"{host.memory_gb:g} GB, by `python -m tests.faults --rounds {rounds} --write`:",
        "",
        "| fault | promised | lost | back | longest wait |",
        "|---|---|---|---|---|",
        *(
            f"| {each.fault.name} | {each.fault.promise} | {each.lost} | {each.back} "
            f"| {each.longest} |"
            for each in verdicts
        ),
        "",
    ]
    DOCUMENT.write_text(head + START + "\n".join(lines) + END + tail)


if __name__ == "__main__":
    sys.exit(main())
