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
            help="The name of the model in requests. The recipe is written to NAME.py.",
            show_default=False,
        ),
    ],
    folder: Annotated[
        Path, typer.Option(file_okay=False, help="The folder to write the recipe into.")
    ] = Path(),
) -> None:
    """Write a recipe template that can be exported without changes."""
    path = new_recipe(name, folder)
    out.print(Text.assemble(("wrote", "green"), f" {path}; next step: shipway export {path}"))
