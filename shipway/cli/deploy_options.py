"""Arguments and options that all `shipway deploy` commands share."""

from pathlib import Path
from typing import Annotated

import typer

ArtifactsArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="ARTIFACT",
        help="The artifact folders to serve. If a model has several versions, the last one given "
        "is its default version.",
        show_default=False,
    ),
]
ModelsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A models.yaml file with the artifacts to serve. It replaces ARTIFACT.",
        show_default=False,
    ),
]
