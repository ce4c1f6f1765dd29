"""What every `shipway deploy` command is told alike."""

from pathlib import Path
from typing import Annotated

import typer

Artifacts = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="ARTIFACT",
        help="All that is to be served: folders that `shipway export` wrote. Of one model, the "
        "last is the default.",
        show_default=False,
    ),
]
Models = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A models.yaml that names the artifacts, instead; all that is served.",
        show_default=False,
    ),
]
