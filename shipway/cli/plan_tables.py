"""The fleets of `shipway plan` as tables, lines of text and JSON."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from shipway.cli.output import figures

if TYPE_CHECKING:
    from shipway.loadtest.capacity import Fleet, Kind


def alone_in_words(kind: "Kind") -> str:
    """A replica that is too slow, with its latency in ms at the lowest rate."""
    # numpy and pydantic take half a second to import.
    from shipway.loadtest.capacity import LOWEST
    from shipway.loadtest.queueing import poisson

    p99_ms = poisson(kind.replica, LOWEST * kind.replica.capacity).p99_ms
    return f"{kind.report.title} on {_host(kind)}, p99 {p99_ms:.1f} ms at a very low rate"


def print_fleets(fleets: "list[Fleet]", rate: float, slo_ms: float) -> None:
    """Prints each fleet with its measurements: rates per second, latencies in ms."""
    figures.print(f"target: {rate:,.15g} requests/s with a p99 below {slo_ms:g} ms\n", style="bold")
    for fleet in fleets:
        kind = fleet.kind
        measured = f"{kind.report.subject.url}, {kind.report.made}"
        figures.print(f"{kind.report.title} on {_host(kind)}: {_setting(kind)}", style="bold")
        figures.print(f"  load test: {measured}", style="dim")
        figures.print(_table(fleet))
        figures.print(f"  simulation compared with measurement, {_agreement(kind)}\n", style="dim")


def _table(fleet: "Fleet") -> Table:
    table = Table(box=None, padding=(0, 0, 0, 2), header_style="dim")
    table.add_column("")
    for title in ("replicas", "cores", "requests/s each", "busy", "p50 ms", "p99 ms"):
        table.add_column(title, justify="right", no_wrap=True)
    states = [("all replicas", fleet.replicas, fleet.whole)]
    if fleet.spare:
        states += [(f"after {fleet.spare} failed", fleet.replicas - fleet.spare, fleet.reduced)]
    states += [("maximum for one replica", 1, fleet.highest)]
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
    rates = [comparison.rate for comparison in kind.compared]
    p50s = [comparison.p50_off for comparison in kind.compared]
    p99s = [comparison.p99_off for comparison in kind.compared]
    return (
        f"{min(rates):g} to {max(rates):g} requests/s: p50 {min(p50s):+.0%} to {max(p50s):+.0%}, "
        f"p99 {min(p99s):+.0%} to {max(p99s):+.0%}"
    )


def _host(kind: "Kind") -> str:
    host = kind.report.host
    return f"{host.processor} with {host.cores} cores" if kind.cores else "another machine"


def _setting(kind: "Kind") -> str:
    replica = kind.replica
    workers = "1 worker" if replica.workers == 1 else f"{replica.workers} workers"
    return f"{workers}, batches of {replica.batch_size}, {replica.delay_ms} ms delay"


def fleet_record(fleet: "Fleet") -> dict[str, object]:
    """A fleet for --json."""
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
        "compared": [asdict(comparison) for comparison in kind.compared],
        "doubts": kind.doubts,
    }
