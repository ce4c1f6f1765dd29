"""`shipway bench`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self
from urllib.parse import urlsplit

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from shipway.cli.server import StateOption, end_as_by_ctrl_c
from shipway.engines.state import state_directory

if TYPE_CHECKING:
    from shipway.loadtest.load import Load, Plan, Target
    from shipway.loadtest.report import Report
    from shipway.loadtest.result import Progress, Result

LOCUSTS_PORT = 8089

# Into a file or a pipe a table may be as wide as it is; 80 columns would cut its figures.
WIDTH = None if sys.stdout.isatty() else 120

out = Console(highlight=False, soft_wrap=True, markup=False, width=WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def register(app: typer.Typer) -> None:
    @app.command()
    def bench(
        name: Annotated[
            str | None,
            typer.Argument(help="A model of the server that runs here.", show_default=False),
        ] = None,
        url: Annotated[
            str | None,
            typer.Option(
                help="Any server's: http://HOST:PORT/predictions/NAME, or grpc://HOST:PORT/NAME.",
                show_default=False,
            ),
        ] = None,
        version: Annotated[
            str | None,
            typer.Option(help="The promoted one if not given.", show_default=False),
        ] = None,
        grpc: Annotated[bool, typer.Option("--grpc", help="Ask over gRPC.")] = False,
        clients: Annotated[
            list[int] | None,
            typer.Option(
                min=1,
                help="A closed loop: so many clients, each with one request at a time. Repeatable.",
                show_default=False,
            ),
        ] = None,
        rate: Annotated[
            list[float] | None,
            typer.Option(
                min=0.01,
                max=100_000,
                help="An open loop: so many arrivals a second, at random. Repeatable.",
                show_default=False,
            ),
        ] = None,
        seconds: Annotated[float, typer.Option(min=1, help="Measured under each load.")] = 10.0,
        warm_up: Annotated[
            float, typer.Option(min=0, help="Seconds of each load that are left out before.")
        ] = 2.0,
        timeout: Annotated[
            float, typer.Option(min=0.1, max=120, help="Seconds after which a client gives up.")
        ] = 30.0,
        input: Annotated[
            list[Path] | None,
            typer.Option(
                exists=True,
                help="A file to send, or a folder of them; photos, sentences or numbers that suit "
                "the model if not given. Repeatable.",
                show_default=False,
            ),
        ] = None,
        header: Annotated[
            list[str] | None,
            typer.Option(help="'NAME: VALUE', with every request. Repeatable.", show_default=False),
        ] = None,
        token: Annotated[
            str | None,
            typer.Option(
                envvar="SHIPWAY_TOKEN",
                help="For --url: the server's inference token.",
                show_default=False,
            ),
        ] = None,
        out_to: Annotated[
            Path, typer.Option("--out", file_okay=False, help="Where the report goes.")
        ] = Path("reports"),
        compare: Annotated[
            list[Path] | None,
            typer.Option(
                help="An earlier report's .json. Without loads of its own, the first one's are "
                "repeated. Repeatable.",
                show_default=False,
            ),
        ] = None,
        web: Annotated[
            bool, typer.Option("--web", help="Locust's own web page instead; no report.")
        ] = False,
        web_port: Annotated[int, typer.Option(help="Where it is, on 127.0.0.1.")] = LOCUSTS_PORT,
        as_json: Annotated[
            bool, typer.Option("--json", help="Print the report's JSON, for scripts.")
        ] = False,
        state: StateOption = None,
    ) -> None:
        """Put a load on a model and write a report.

        Without loads: one client, what many clients get, then rates up to beyond that.
        """
        from shipway.engines.torchserve.tokens import bearer
        from shipway.loadtest import inputs, preflight
        from shipway.loadtest.load import Closed, Open, Plan
        from shipway.loadtest.report import check_folder, new_report, read_report, write_report
        from shipway.loadtest.sweep import LOADS

        if (name is None) == (url is None):
            raise typer.BadParameter("give a model's NAME, or --url", param_hint="NAME")
        if url and (grpc or version):
            raise typer.BadParameter(
                "it says all: grpc:// for gRPC, the version after the name. --grpc and --version "
                "belong to NAME.",
                param_hint="--url",
            )
        end_as_by_ctrl_c()
        earlier = {path.stem: read_report(path) for path in compare or []}
        check_folder(out_to)
        given = inputs.from_files(input) if input else ()
        headers = _headers(header or [])
        with err.status("Asking the server …"):
            if name is not None:
                where = state_directory(state)
                ready = preflight.here(
                    where, name, version, grpc=grpc, headers=headers, given=given
                )
            else:
                target = _target(url or "")
                ready = preflight.anywhere(target, headers | bearer(token), given)
        loads: list[Load] = [Closed(clients=each) for each in clients or []]
        loads += [Open(rate=each) for each in rate or []]
        if not loads and earlier:
            loads = [each.load for each in next(iter(earlier.values())).results]

        plan = Plan(
            target=ready.target,
            headers=ready.headers,
            inputs=ready.inputs,
            load=Closed(clients=1),
            warm_up_s=warm_up,
            seconds=seconds,
            timeout_s=timeout,
        )
        if web:
            _serve_web(plan, web_port)
            return
        with Shown(len(loads) or LOADS) as shown:
            results, partial, code = _measure_all(plan, loads, shown)
        report = new_report(ready.subject, ready.inputs, timeout, results, partial)
        json_path, html_path = write_report(report, out_to, earlier)
        if as_json:
            print(report.model_dump_json())
        else:
            _print_report(report)
            out.print(f"report {html_path}")
            out.print(f"       {json_path}")
        if partial:
            err.print(f"partial: {partial}", style="bold red")
            raise typer.Exit(code)


def _measure_all(
    plan: "Plan", loads: "Sequence[Load]", shown: "Shown"
) -> "tuple[list[Result], str, int]":
    """Every load of the plan's kind, a sweep if there are none; why it ended early, and the exit
    code then."""
    from shipway.loadtest.errors import GeneratorFailed, Interrupted
    from shipway.loadtest.runner import measure
    from shipway.loadtest.sweep import sweep

    results: list[Result] = []
    try:
        for load in loads or sweep(results):
            shown.begin(load)
            results.append(measure(plan.model_copy(update={"load": load}), shown.progress))
            shown.end(results[-1])
            if not results[-1].answered:
                return results, f"no request was answered under {load}", 1
    except Interrupted as stopped:
        if stopped.result.answered or stopped.result.failed:
            results.append(stopped.result)
        return results, "stopped in the middle", 130
    except KeyboardInterrupt:
        return results, "stopped in the middle", 130
    except GeneratorFailed as error:
        return results, str(error), 1
    return results, "", 0


class Shown:
    """How it goes: on a terminal a table that grows, elsewhere a line for each load."""

    def __init__(self, loads: int) -> None:
        self._loads = loads
        self._results: list[Result] = []
        self._load: Load | None = None
        self._now: Progress | None = None
        self._live = Live(
            console=err, transient=True, refresh_per_second=2, get_renderable=self._table
        )

    def __enter__(self) -> Self:
        if err.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def begin(self, load: "Load") -> None:
        self._load, self._now = load, None

    def progress(self, now: "Progress") -> None:
        self._now = now

    def end(self, result: "Result") -> None:
        self._results.append(result)
        self._load = None
        if not err.is_terminal:
            err.print(_in_words(result))

    def _table(self) -> Group:
        table = _table(self._results)
        done = 0.0
        if self._load and (now := self._now):
            length = now.plan.warm_up_s + now.plan.seconds
            done = min(1.0, (now.plan.warm_up_s + now.at) / length)
            table.add_row(
                f"{self._load}{'' if now.at > 0 else ', warming up'}",
                f"{now.rate:.1f}",
                _ms(now.p50_ms),
                "",
                _ms(now.p99_ms),
                "",
                "",
                str(now.failed),
                f"{now.cpu:.0%}",
                style="bold",
            )
        elif self._load:
            table.add_row(str(self._load), style="dim")
        number = len(self._results) + (self._load is not None)
        most = max(self._loads, number)  # a sweep may go on
        bar = ProgressBar(total=most, completed=len(self._results) + done, width=40)
        return Group(table, Text(f"load {number} of {most}"), bar)


def _table(results: "Sequence[Result]", knee: "Result | None" = None) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("load", no_wrap=True)
    for title in ("answers/s", "p50", "p90", "p99", "p99.9", "max", "errors", "cpu"):
        table.add_column(title, justify="right", no_wrap=True)
    for each in results:
        latency = each.latency
        percentiles = (
            (latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.p99_9_ms, latency.max_ms)
            if latency
            else [None] * 5
        )
        table.add_row(
            f"{each.load}{' ◀' if each is knee else ''}",
            f"{each.rate:.1f}",
            *map(_ms, percentiles),
            str(each.failed),
            f"{each.generator.cpu:.0%}{' ⚠' if each.generator.was_bottleneck else ''}",
            style="red" if each.failed else None,
        )
    return table


def _print_report(report: "Report") -> None:
    table = _table(report.results, report.knee)
    table.title = f"{report.title}: latency in ms; cpu: the generator's share of a core"
    table.title_justify = "left"
    out.print(table)
    for each in report.results:
        if each.generator.was_bottleneck:
            because = each.generator.because
            out.print(f"⚠ {each.load}: the generator was the bottleneck: {because}", style="yellow")
        for error in each.errors:
            out.print(f"{each.load}: {error.count} × {error}: {error.message[:200]}", style="red")
    if knee := report.knee:
        assert knee.latency
        out.print(f"◀ the knee is at {knee.load}: p99 {_ms(knee.latency.p99_ms)} ms", style="green")


def _in_words(result: "Result") -> str:
    latency = result.latency
    words = f"{result.load}: {result.rate:.1f} answers a second"
    if latency:
        words += f", p50 {_ms(latency.p50_ms)} ms, p99 {_ms(latency.p99_ms)} ms"
    if result.failed:
        words += f", {result.failed} errors"
    return words + (", the generator was the bottleneck" * result.generator.was_bottleneck)


def _ms(value: float | None) -> str:
    from shipway.report.page import rounded

    return "–" if value is None else rounded(value)


def _serve_web(plan: "Plan", port: int) -> None:
    """Locust's own page, with these users, until Ctrl-C."""
    from shipway.loadtest.errors import GeneratorFailed
    from shipway.loadtest.runner import generator_process

    with generator_process(plan, str(port)) as process:
        try:
            assert process.stdout
            if process.stdout.readline():  # it listens
                out.print(f"Locust's page is http://127.0.0.1:{port}/ . Ctrl-C ends it.")
            process.wait()
        except KeyboardInterrupt:
            out.print("stopped")
            return
        raise GeneratorFailed(
            f"Locust's page cannot be served on port {port}; name another with --web-port."
        )


def _target(url: str) -> "Target":
    from shipway.loadtest.load import Target

    try:
        parts = urlsplit(url)
        whole = bool(parts.hostname) and parts.port != 0 and len(parts.path) > 1
    except ValueError:  # a port that is no number, or that no machine has
        whole = False
    if not whole or parts.scheme not in ("http", "https", "grpc"):
        raise typer.BadParameter(
            f"{url} is neither http://HOST:PORT/predictions/NAME nor grpc://HOST:PORT/NAME.",
            param_hint="--url",
        )
    return Target(url=url)


def _headers(given: Sequence[str]) -> dict[str, str]:
    headers = {}
    for each in given:
        name, colon, value = each.partition(":")
        if not colon or not name.strip():
            raise typer.BadParameter(f"{each!r} is not 'NAME: VALUE'.", param_hint="--header")
        headers[name.strip().lower()] = value.strip()
    return headers
