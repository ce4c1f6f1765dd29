"""Arguments and options that all `shipway deploy` commands share."""

from pathlib import Path
from typing import Annotated

import typer

ArtifactsArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[ARTIFACT]",
        help="The artifacts to serve: folders that `shipway export` wrote. Of several versions of "
        "a model, the last one is the default.",
        show_default=False,
    ),
]
ModelsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A models.yaml that names the artifacts to serve, instead of ARTIFACT.",
        show_default=False,
    ),
]
