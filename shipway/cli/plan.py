"""`shipway plan`."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from shipway.cli.bench import err, out
from shipway.cli.server import JsonOption, end_as_by_ctrl_c
from shipway.cli.tune import SloOption, milliseconds
from shipway.loadtest.errors import NoReplicaKeeps

if TYPE_CHECKING:
    from shipway.loadtest.capacity import Fleet, Kind


def register(app: typer.Typer) -> None:
    @app.command()
    def plan(
        rate: Annotated[
            float, typer.Option(help="Requests a second, of all users.", show_default=False)
        ],
        slo_p99: SloOption,
        spare: Annotated[
            int, typer.Option(min=0, help="So many replicas may be lost at once.")
        ] = 1,
        reports: Annotated[
            list[Path] | None,
            typer.Option(
                "--from",
                help="A sweep of `shipway bench`, its .json; the newest of each server, model and "
                "setting in reports/ if not given. Repeatable.",
                show_default=False,
            ),
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        """Say how many replicas carry a load, from load tests of one.

        It simulates what was measured, and asks no server: docs/capacity.md says what it assumes.
        """
        from shipway.loadtest.capacity import calibrated, fleet, newest_of_each
        from shipway.loadtest.report import read_report

        slo_ms = milliseconds(slo_p99)
        if not 0 < rate < math.inf:
            raise typer.BadParameter(f"{rate:g} is no rate.", param_hint="--rate")
        end_as_by_ctrl_c()
        paths = reports or newest_of_each(Path("reports"))
        fleets: list[Fleet] = []
        slow: list[Kind] = []
        with err.status("Reading reports …") as status:
            for number, report in enumerate(map(read_report, paths), start=1):
                status.update(f"{report.title}, {number} of {len(paths)}: calibrating …")
                kind = calibrated(report)
                status.update(f"{report.title}, {number} of {len(paths)}: simulating …")
                found = fleet(kind, rate, slo_ms, spare)
                fleets += [found] if found else []
                slow += [] if found else [kind]
        if not fleets:
            raise NoReplicaKeeps(
                f"No replica keeps 99% of requests below {slo_ms:g} ms, even if it is hardly asked:"
                f" {'; '.join(map(_alone, slow))}. Allow more with --slo-p99, or find quicker "
                "settings with `shipway tune`."
            )
        fleets.sort(key=lambda each: (each.cores or math.inf, each.replicas))
        if as_json:
            print(json.dumps({"rate": rate, "slo_p99_ms": slo_ms, "fleets": [*map(_row, fleets)]}))
        else:
            _print(fleets, rate, slo_ms)
        for each in slow:
            err.print(f"left out, for it is too slow: {_alone(each)}", style="yellow")
        for each in (*slow, *(found.kind for found in fleets)):
            for doubt in each.doubts:
                err.print(f"⚠ {each.report.title} of {each.report.made}: {doubt}.", style="yellow")


def _alone(kind: "Kind") -> str:
    from shipway.loadtest.capacity import LOWEST
    from shipway.loadtest.queueing import poisson

    p99_ms = poisson(kind.replica, LOWEST * kind.replica.capacity).p99_ms
    return f"{kind.report.title} on {_host(kind)}, p99 {p99_ms:.1f} ms alone"


def _print(fleets: "list[Fleet]", rate: float, slo_ms: float) -> None:
    out.print(f"{rate:,.15g} requests a second, 99% of them within {slo_ms:g} ms\n", style="bold")
    for each in fleets:
        kind = each.kind
        measured = f"{kind.report.subject.url}, {kind.report.made}"
        out.print(f"{kind.report.title} on {_host(kind)}: {_setting(kind)}", style="bold")
        out.print(f"  measured at {measured}", style="dim")
        out.print(_table(each))
        out.print(f"  simulated beside measured, {_agreement(kind)}\n", style="dim")


def _table(fleet: "Fleet") -> Table:
    table = Table(box=None, padding=(0, 0, 0, 2), header_style="dim")
    table.add_column("")
    for title in ("replicas", "cores", "each, a second", "busy", "p50 ms", "p99 ms"):
        table.add_column(title, justify="right", no_wrap=True)
    states = [("all of them", fleet.replicas, fleet.whole)]
    if fleet.spare:
        states += [(f"{fleet.spare} lost", fleet.replicas - fleet.spare, fleet.reduced)]
    states += [("the most that one may have", 1, fleet.highest)]
    for title, replicas, state in states:
        table.add_row(
            title,
            f"{replicas:,}",
            f"{replicas * fleet.kind.cores:,}" if fleet.kind.cores else "–",
            f"{state.rate:,.1f}",
            f"{state.busy:.0%}",
            f"{state.p50_ms:.1f}",
            f"{state.p99_ms:.1f}",
        )
    return table


def _agreement(kind: "Kind") -> str:
    rates = [each.rate for each in kind.compared]
    p50s, p99s = zip(*((each.p50_off, each.p99_off) for each in kind.compared), strict=True)
    return (
        f"{min(rates):g} to {max(rates):g} a second: p50 {min(p50s):+.0%} to {max(p50s):+.0%}, "
        f"p99 {min(p99s):+.0%} to {max(p99s):+.0%}"
    )


def _host(kind: "Kind") -> str:
    host = kind.report.host
    return f"{host.processor} with {host.cores} cores" if kind.cores else "another machine"


def _setting(kind: "Kind") -> str:
    replica = kind.replica
    workers = "1 worker" if replica.workers == 1 else f"{replica.workers} workers"
    return f"{workers}, batches of {replica.batch_size}, {replica.delay_ms} ms delay"


def _row(fleet: "Fleet") -> dict[str, object]:
    kind = fleet.kind
    return {
        "subject": kind.report.subject.model_dump(),
        "host": kind.report.host.model_dump(),
        "measured": kind.report.made,
        "replicas": fleet.replicas,
        "spare": fleet.spare,
        "cores": fleet.cores,
        "highest": asdict(fleet.highest),
        "whole": asdict(fleet.whole),
        "reduced": asdict(fleet.reduced),
        "compared": [asdict(each) for each in kind.compared],
        "doubts": kind.doubts,
    }
