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
        help="An artifact: a folder that `shipway export` wrote.",
        show_default=False,
    ),
]
StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state",
        file_okay=False,
        envvar="SHIPWAY_STATE",
        help="The server's state directory. By default, .shipway in this folder or the nearest "
        "one above.",
        show_default=False,
    ),
]
ModelStoreOption = Annotated[
    Path | None,
    typer.Option(
        file_okay=False,
        help="The folder of .mar files. By default, model_store beside the configuration, or "
        "in this folder for the configuration that comes with Shipway.",
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
        help="The latency that 99% of requests must stay below, such as 50ms or 0.05s.",
        show_default=False,
    ),
]


def milliseconds(text: str) -> float:
    """The value of --slo-p99 in milliseconds. Raises BadParameter."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s)\s*", text)
    value = float(match[1]) * {"ms": 1.0, "s": 1000.0}[match[2]] if match else 0.0
    if not value:
        raise typer.BadParameter(
            f"{text!r} is not a latency above zero. Write 50ms, or 0.05s.", param_hint="--slo-p99"
        )
    return value
