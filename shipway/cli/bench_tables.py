"""The measurements of `shipway bench` as tables and lines of text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from shipway.cli.output import figures

if TYPE_CHECKING:
    from shipway.loadtest.report import Report
    from shipway.loadtest.result import Result


def results_table(results: "Sequence[Result]", knee: "Result | None" = None) -> Table:
    """A row for each load: answers per second, latency in milliseconds, errors, generator load."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("load", no_wrap=True)
    for title in ("answers/s", "p50", "p90", "p99", "p99.9", "max", "errors", "cpu"):
        table.add_column(title, justify="right", no_wrap=True)
    for result in results:
        latency = result.latency
        percentiles = (
            (latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.p99_9_ms, latency.max_ms)
            if latency
            else [None] * 5
        )
        table.add_row(
            f"{result.load}{' ◀' if result is knee else ''}",
            f"{result.rate:.1f}",
            *map(milliseconds_in_words, percentiles),
            str(result.failed),
            f"{result.generator.cpu:.0%}{' ⚠' if result.generator.was_bottleneck else ''}",
            style="red" if result.failed else None,
        )
    return table


def print_report(report: "Report") -> None:
    """Prints the measurements of a report, its errors and warnings."""
    table = results_table(report.results, report.knee)
    table.title = f"{report.title}: latency in ms; cpu is the load generator's use of one core"
    table.title_justify = "left"
    figures.print(table)
    for result in report.results:
        load = result.load
        if result.generator.was_bottleneck:
            because = result.generator.because
            figures.print(
                f"⚠ {load}: the load generator was the bottleneck: {because}", style="yellow"
            )
        for error in result.errors:
            figures.print(f"{load}: {error.count} × {error}: {error.message[:200]}", style="red")
    if knee := report.knee:
        assert knee.latency
        p99_ms = milliseconds_in_words(knee.latency.p99_ms)
        figures.print(
            f"◀ latency rises steeply beyond {knee.load} (the knee): p99 {p99_ms} ms", style="green"
        )


def result_in_words(result: "Result") -> str:
    """One load's measurements in a line."""
    latency = result.latency
    words = f"{result.load}: {result.rate:.1f} answers/s"
    if latency:
        p50, p99 = map(milliseconds_in_words, (latency.p50_ms, latency.p99_ms))
        words += f", p50 {p50} ms, p99 {p99} ms"
    if result.failed:
        words += f", {result.failed} errors"
    return words + (", the load generator was the bottleneck" * result.generator.was_bottleneck)


def milliseconds_in_words(value_ms: float | None) -> str:
    """A latency rounded for people, or a dash."""
    # jinja2, which this module needs for its pages, takes a tenth of a second to import.
    from shipway.report.page import rounded

    return "–" if value_ms is None else rounded(value_ms)
