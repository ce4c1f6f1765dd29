"""Options that several commands share."""

import re
from pathlib import Path
from typing import Annotated

import typer

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The name of a model.", show_default=False)
]
VersionArgument = Annotated[
    str,
    typer.Argument(metavar="VERSION", help="The version of the model.", show_default=False),
]
ArtifactArgument = Annotated[
    Path,
    typer.Argument(
        metavar="ARTIFACT",
        help="An artifact folder written by `shipway export`.",
        show_default=False,
    ),
]
StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state",
        file_okay=False,
        envvar="SHIPWAY_STATE",
        help="The server's state directory. The default is .shipway in the current folder or in "
        "the nearest parent folder that has one.",
        show_default=False,
    ),
]
ModelStoreOption = Annotated[
    Path | None,
    typer.Option(
        file_okay=False,
        help="The folder of .mar files. The default is model_store next to the server "
        "configuration, or in the current folder if the configuration is the one that comes "
        "with Shipway.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
BecauseOption = Annotated[
    str | None,
    typer.Option(
        "--because",
        metavar="TEXT",
        help="The reason for the change, kept in the model's history.",
        show_default=False,
    ),
]
SloOption = Annotated[
    str,
    typer.Option(
        "--slo-p99",
        help="The p99 latency target, for example 50ms or 0.05s.",
        show_default=False,
    ),
]


def milliseconds(text: str) -> float:
    """The value of --slo-p99 in milliseconds. Raises BadParameter."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s)\s*", text)
    value = float(match[1]) * {"ms": 1.0, "s": 1000.0}[match[2]] if match else 0.0
    if not value:
        raise typer.BadParameter(
            f"{text!r} is not a valid latency. Give a positive number with a unit, for "
            "example 50ms or 0.05s.",
            param_hint="--slo-p99",
        )
    return value
