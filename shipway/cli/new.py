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
    source: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--from",
            metavar="SOURCE MODEL",
            help="Write the recipe of a model that a library describes: `torchvision resnet50`, or "
            "`hf FOLDER` for a folder that Hugging Face's `save_pretrained` wrote.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a recipe that can be exported without changes."""
    text = None
    if source is not None:
        # torch takes seconds to import.
        from shipway.export.new_from import recipe_from

        text = recipe_from(*source, name)
    path = new_recipe(name, folder, text)
    out.print(Text.assemble(("wrote", "green"), f" {path}; next step: shipway export {path}"))
