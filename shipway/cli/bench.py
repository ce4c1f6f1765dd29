"""`shipway bench`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import typer

from shipway.cli.bench_options import (
    ClientsOption,
    CompareOption,
    GrpcOption,
    HeaderOption,
    InputOption,
    NameArgument,
    OutOption,
    RateOption,
    ReportJsonOption,
    SecondsOption,
    TimeoutOption,
    TokenOption,
    UrlOption,
    VersionOption,
    WarmUpOption,
    WebOption,
    WebPortOption,
)
from shipway.cli.bench_progress import LoadProgress
from shipway.cli.bench_tables import print_report
from shipway.cli.options import StateOption
from shipway.cli.output import err, out
from shipway.cli.signals import end_as_by_ctrl_c
from shipway.engines.state import state_directory
from shipway.extras import require_extra
from shipway.loadtest.errors import GeneratorFailed, Interrupted

if TYPE_CHECKING:
    from shipway.loadtest.load_test import LoadTest, Target
    from shipway.loadtest.report import Report
    from shipway.loadtest.result import Result
    from shipway.loadtest.shapes.base import LoadShape

LOCUSTS_PORT = 8089


def bench(
    name: NameArgument = None,
    url: UrlOption = None,
    version: VersionOption = None,
    grpc: GrpcOption = False,
    clients: ClientsOption = None,
    rate: RateOption = None,
    seconds: SecondsOption = 10.0,
    warm_up: WarmUpOption = 2.0,
    timeout: TimeoutOption = 30.0,
    input: InputOption = None,
    header: HeaderOption = None,
    token: TokenOption = None,
    out_folder: OutOption = Path("reports"),
    compare: CompareOption = None,
    web: WebOption = False,
    web_port: WebPortOption = LOCUSTS_PORT,
    as_json: ReportJsonOption = False,
    state: StateOption = None,
) -> None:
    """Load-test a model and write a report.

    Without --clients and --rate it measures a sweep: 1 client, then 32 clients to find the
    capacity, then rates from 20% to 120% of that capacity, or higher while the server keeps up.
    """
    # httpx and pydantic take a second to import, the histograms and pages some more.
    from shipway.engines.torchserve.tokens import bearer
    from shipway.loadtest import inputs, preflight
    from shipway.loadtest.load_test import LoadTest
    from shipway.loadtest.report import new_report
    from shipway.loadtest.report_files import check_folder, read_report, write_report
    from shipway.loadtest.shapes.closed import ClosedLoop
    from shipway.loadtest.shapes.open import OpenLoop

    _check_subject(name, url, version, grpc)
    require_extra("bench", "`shipway bench`")
    end_as_by_ctrl_c()
    earlier = {path.stem: read_report(path) for path in compare or []}
    check_folder(out_folder)
    given = inputs.from_files(input) if input else ()
    headers = _headers(header or [])
    with err.status("Contacting the server …"):
        if name is not None:
            where = state_directory(state)
            ready = preflight.local_model(
                where, name, version, grpc=grpc, headers=headers, given=given
            )
        else:
            ready = preflight.model_at(_target(url or ""), headers | bearer(token), given)
    loads: list[LoadShape] = [ClosedLoop(clients=number) for number in clients or []]
    loads += [OpenLoop(rate=per_second) for per_second in rate or []]
    if not loads and earlier:
        loads = [result.load for result in next(iter(earlier.values())).results]
    load_test = LoadTest(
        target=ready.target,
        headers=ready.headers,
        inputs=ready.inputs,
        load=ClosedLoop(clients=1),
        warm_up_s=warm_up,
        seconds=seconds,
        timeout_s=timeout,
    )
    if web:
        _serve_web(load_test, web_port)
        return
    results, partial, code = _measure_all(load_test, loads)
    report = new_report(ready.subject, ready.inputs, timeout, results, partial)
    _print_written(report, write_report(report, out_folder, earlier), as_json)
    if partial:
        err.print(f"The report is incomplete: {partial}", style="bold red")
        raise typer.Exit(code)


def _check_subject(name: str | None, url: str | None, version: str | None, grpc: bool) -> None:
    if (name is None) == (url is None):
        raise typer.BadParameter("Give either a model's NAME or --url.", param_hint="NAME")
    if url and (grpc or version):
        raise typer.BadParameter(
            "--grpc and --version cannot be combined with --url. Put both into the URL: "
            "grpc://HOST:PORT/NAME/VERSION.",
            param_hint="--url",
        )


def _measure_all(
    load_test: "LoadTest", loads: "Sequence[LoadShape]"
) -> "tuple[list[Result], str, int]":
    """Measures the loads, or a sweep if there are none.

    Returns the results and, if it ended early, the reason and the exit code.
    """
    # hdrh, numpy and pydantic take a second to import.
    from shipway.loadtest.runner import measure
    from shipway.loadtest.sweep import LOADS, sweep

    results: list[Result] = []
    with LoadProgress(len(loads) or LOADS) as progress:
        try:
            for load in loads or sweep(results):
                progress.begin(load)
                results.append(
                    measure(load_test.model_copy(update={"load": load}), progress.update)
                )
                progress.end(results[-1])
                if not results[-1].answered:
                    return results, f"no request was answered with a load of {load}", 1
        except Interrupted as stopped:
            if stopped.result.answered or stopped.result.failed:
                results.append(stopped.result)
            return results, "stopped before all loads were measured", 130
        except KeyboardInterrupt:
            return results, "stopped before all loads were measured", 130
        except GeneratorFailed as error:
            return results, str(error), 1
    return results, "", 0


def _print_written(report: "Report", paths: tuple[Path, Path], as_json: bool) -> None:
    json_path, html_path = paths
    if as_json:
        print(report.model_dump_json())
        return
    print_report(report)
    out.print(f"report {html_path}")
    out.print(f"       {json_path}")


def _serve_web(load_test: "LoadTest", port: int) -> None:
    """Serves Locust's own page, with these users, until Ctrl-C."""
    # hdrh, numpy and pydantic take a second to import.
    from shipway.loadtest.runner import generator_process

    with generator_process(load_test, str(port)) as process:
        try:
            assert process.stdout
            with err.status("Starting Locust …"):
                is_listening = bool(process.stdout.readline())
            if is_listening:
                out.print(
                    f"Locust's web page is at http://127.0.0.1:{port}/ . Press Ctrl-C to stop it."
                )
            process.wait()
        except KeyboardInterrupt:
            out.print("stopped")
            return
        raise GeneratorFailed(
            f"Locust's web page cannot be served on port {port}. Choose another port with "
            "--web-port."
        )


def _target(url: str) -> "Target":
    # pydantic takes half a second to import.
    from shipway.loadtest.load_test import Target

    try:
        parts = urlsplit(url)
        complete = bool(parts.hostname) and parts.port != 0 and len(parts.path) > 1
    except ValueError:  # the port is not a number, or out of range
        complete = False
    if not complete or parts.scheme not in ("http", "https", "grpc"):
        raise typer.BadParameter(
            f"{url} is not the URL of a model. Use http://HOST:PORT/predictions/NAME or "
            "grpc://HOST:PORT/NAME.",
            param_hint="--url",
        )
    return Target(url=url)


def _headers(given: Sequence[str]) -> dict[str, str]:
    headers = {}
    for header in given:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise typer.BadParameter(
                f"{header!r} is not a valid header. Use 'NAME: VALUE'.", param_hint="--header"
            )
        headers[name.strip().lower()] = value.strip()
    return headers
