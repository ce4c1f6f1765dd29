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
        float,
        typer.Option(
            help="The expected load in requests per second, of all users together.",
            show_default=False,
        ),
    ],
    slo_p99: SloOption,
    spare: Annotated[
        int, typer.Option(min=0, help="The number of replicas that may fail at the same time.")
    ] = 1,
    reports: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="REPORT.json",
            help="A report of a `shipway bench` sweep. The default is the newest report in "
            "reports/ for each server, model and setting. May be repeated.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Calculate how many replicas a load needs, from load tests of one replica.

    The result comes from a simulation of the measured replica; no requests are sent. The
    page on capacity in the documentation lists the assumptions.
    """
    slo_ms = milliseconds(slo_p99)
    if not 0 < rate < math.inf:
        raise typer.BadParameter(
            f"{rate:g} is not a valid rate. Give a number of requests per second above zero.",
            param_hint="--rate",
        )
    require_extra("bench", "`shipway plan`")
    end_as_by_ctrl_c()
    fleets, slow = _simulate(reports, rate, slo_ms, spare)
    if not fleets:
        raise NoReplicaKeeps(
            f"No measured replica has a p99 below {slo_ms:g} ms: "
            f"{'; '.join(map(alone_in_words, slow))}. Raise the target with --slo-p99, or "
            "find faster settings with `shipway tune`."
        )
    fleets.sort(key=lambda fleet: (fleet.cores or math.inf, fleet.replicas))
    if as_json:
        records = [fleet_record(fleet) for fleet in fleets]
        print(json.dumps({"rate": rate, "slo_p99_ms": slo_ms, "fleets": records}))
    else:
        print_fleets(fleets, rate, slo_ms)
    for kind in slow:
        warn(f"excluded, because it is too slow: {alone_in_words(kind)}")
    for kind in (*slow, *(fleet.kind for fleet in fleets)):
        for doubt in kind.doubts:
            warn(f"⚠ report of {kind.report.title}, made {kind.report.made}: {doubt}.")


def _simulate(
    reports: list[Path] | None, rate: float, slo_ms: float, spare: int
) -> "tuple[list[Fleet], list[Kind]]":
    """The fleets that meet the target, and the kinds of replica that are too slow."""
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
