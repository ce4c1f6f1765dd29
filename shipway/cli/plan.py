"""`shipway plan`."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shipway.cli.options import JsonOption, SloOption, milliseconds
from shipway.cli.output import err, warn
from shipway.cli.plan_tables import alone_in_words, fleet_record, print_fleets
from shipway.cli.signals import end_as_by_ctrl_c
from shipway.extras import require_extra
from shipway.loadtest.errors import NoReplicaKeeps

if TYPE_CHECKING:
    from shipway.loadtest.capacity import Fleet, Kind

REPORTS = Path("reports")
"""Where `shipway bench` writes reports by default."""


def plan(
    rate: Annotated[
        float, typer.Option(help="Requests per second, of all users.", show_default=False)
    ],
    slo_p99: SloOption,
    spare: Annotated[
        int, typer.Option(min=0, help="How many replicas may be lost at the same time.")
    ] = 1,
    reports: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="REPORT.json",
            help="A sweep that `shipway bench` measured. By default, the newest report of each "
            "server, model and setting in reports/. May be repeated.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute how many replicas carry a load, from load tests of one replica.

    It simulates what was measured, and sends no request. docs/capacity.md says what it assumes.
    """
    slo_ms = milliseconds(slo_p99)
    if not 0 < rate < math.inf:
        raise typer.BadParameter(
            f"{rate:g} is not a rate. Give requests per second, above zero.", param_hint="--rate"
        )
    require_extra("bench", "`shipway plan`")
    end_as_by_ctrl_c()
    fleets, slow = _simulate(reports, rate, slo_ms, spare)
    if not fleets:
        raise NoReplicaKeeps(
            f"No replica keeps 99% of requests below {slo_ms:g} ms, even at a very low rate: "
            f"{'; '.join(map(alone_in_words, slow))}. Allow more with --slo-p99, or find faster "
            "settings with `shipway tune`."
        )
    fleets.sort(key=lambda fleet: (fleet.cores or math.inf, fleet.replicas))
    if as_json:
        records = [fleet_record(fleet) for fleet in fleets]
        print(json.dumps({"rate": rate, "slo_p99_ms": slo_ms, "fleets": records}))
    else:
        print_fleets(fleets, rate, slo_ms)
    for kind in slow:
        warn(f"left out because it is too slow: {alone_in_words(kind)}")
    for kind in (*slow, *(fleet.kind for fleet in fleets)):
        for doubt in kind.doubts:
            warn(f"⚠ {kind.report.title} of {kind.report.made}: {doubt}.")


def _simulate(
    reports: list[Path] | None, rate: float, slo_ms: float, spare: int
) -> "tuple[list[Fleet], list[Kind]]":
    """The fleets that carry the load, and the replicas that are too slow in any number."""
    # httpx, numpy and pydantic take more than a second to import.
    from shipway.loadtest.capacity import calibrated, fleet, newest_of_each
    from shipway.loadtest.report_files import read_report

    paths = reports or newest_of_each(REPORTS)
    fleets: list[Fleet] = []
    slow: list[Kind] = []
    with err.status("Reading reports …") as status:
        for number, report in enumerate(map(read_report, paths), start=1):
            status.update(f"{report.title}, {number} of {len(paths)}: calibrating …")
            kind = calibrated(report)
            status.update(f"{report.title}, {number} of {len(paths)}: simulating …")
            found = fleet(kind, rate, slo_ms, spare)
            if found:
                fleets.append(found)
            else:
                slow.append(kind)
    return fleets, slow
