"""Arguments and options of `shipway bench`."""

from pathlib import Path
from typing import Annotated

import typer

from shipway.limits import LONGEST_LATENCY_S

NameArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="The name of a model on the server of this machine.",
        show_default=False,
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        help="The URL of a model on any server: http://HOST:PORT/predictions/NAME, or "
        "grpc://HOST:PORT/NAME.",
        show_default=False,
    ),
]
VersionOption = Annotated[
    str | None,
    typer.Option(
        help="The version to test. The default is the model's default version.", show_default=False
    ),
]
GrpcOption = Annotated[bool, typer.Option("--grpc", help="Send the requests over gRPC.")]
ClientsOption = Annotated[
    list[int] | None,
    typer.Option(
        min=1,
        help="Measure a closed loop with this number of clients. Each client sends one request "
        "at a time. May be repeated.",
        show_default=False,
    ),
]
RateOption = Annotated[
    list[float] | None,
    typer.Option(
        min=0.01,
        max=100_000,
        help="Measure an open loop with this number of requests per second, sent at random "
        "times. May be repeated.",
        show_default=False,
    ),
]
SecondsOption = Annotated[
    float, typer.Option(min=1, help="Seconds for which each load is measured.")
]
WarmUpOption = Annotated[
    float,
    typer.Option(min=0, help="Seconds of warm-up before each load is measured."),
]
TimeoutOption = Annotated[
    float,
    typer.Option(
        min=0.1,
        max=LONGEST_LATENCY_S,
        help="Seconds after which an unanswered request counts as failed.",
    ),
]
InputOption = Annotated[
    list[Path] | None,
    typer.Option(
        exists=True,
        help="A file to send, or a folder of files. The default is photos, sentences or numbers "
        "that the model accepts. May be repeated.",
        show_default=False,
    ),
]
HeaderOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="'NAME: VALUE'",
        help="A header to send with every request. May be repeated.",
        show_default=False,
    ),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        envvar="SHIPWAY_TOKEN",
        help="The inference token of the server in --url.",
        show_default=False,
    ),
]
OutOption = Annotated[
    Path, typer.Option("--out", file_okay=False, help="The folder to write the report into.")
]
CompareOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="REPORT.json",
        help="An earlier report to compare with. Without --clients and --rate, the loads of the "
        "first given report are measured again. May be repeated.",
        show_default=False,
    ),
]
WebOption = Annotated[
    bool,
    typer.Option("--web", help="Serve Locust's own web page instead of writing a report."),
]
WebPortOption = Annotated[
    int,
    typer.Option(min=1, max=65535, help="The port of Locust's web page on 127.0.0.1."),
]
ReportJsonOption = Annotated[
    bool, typer.Option("--json", help="Print the report as JSON, for scripts.")
]
