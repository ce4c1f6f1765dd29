"""`shipway new`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from shipway.cli.output import out
from shipway.export.new import new_recipe


def new(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="The name that clients will use for the model. The file is NAME.py.",
            show_default=False,
        ),
    ],
    folder: Annotated[
        Path, typer.Option(file_okay=False, help="The folder to write it into.")
    ] = Path(),
) -> None:
    """Write a recipe to start from. It exports as it is."""
    path = new_recipe(name, folder)
    out.print(Text.assemble(("wrote", "green"), f" {path}  →  shipway export {path}"))
