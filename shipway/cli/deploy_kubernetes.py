"""`shipway deploy kubernetes`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from shipway.cli.deploy_options import Artifacts, Models

console = Console(highlight=False, soft_wrap=True, markup=False)

CLAIM = "the volume claim shipway-model-store"


class Overlay(StrEnum):
    cpu = "cpu"
    gpu = "gpu"


def add_to(deploy: typer.Typer) -> None:
    @deploy.command()
    def kubernetes(
        artifacts: Artifacts = None,
        models: Models = None,
        model_store: Annotated[
            Path, typer.Option(help="Where their archives are, and what was tuned.")
        ] = Path("model_store"),
        overlay: Annotated[Overlay, typer.Option()] = Overlay.cpu,
        image: Annotated[
            str | None,
            typer.Option(
                metavar="NAME:TAG",
                help="The image made of the Dockerfile. [shipway:cpu or shipway:gpu]",
                show_default=False,
            ),
        ] = None,
        archives_image: Annotated[
            str | None,
            typer.Option(
                metavar="NAME:TAG",
                help="An image with the archives in /archives, instead of a volume claim.",
                show_default=False,
            ),
        ] = None,
        output: Annotated[Path, typer.Option(metavar="FOLDER")] = Path("kubernetes"),
    ) -> None:
        """Write a Kustomize folder that serves artifacts on a cluster."""
        from shipway.deploy.kubernetes import read_served, stored_files, write

        served = read_served(artifacts or [], models, model_store)
        needs = write(
            served, output, overlay=overlay.value, image=image, archives_image=archives_image
        )
        table = Table("model", "version", "default", "archive", box=None)
        for each in served:
            name, version = each.model.name, each.model.version
            table.add_row(name, version, "●" if each.model.default else "", each.digest[:12])
        console.print(table)
        console.print(f"each pod asks for {needs.cpu} processors and {needs.memory} of memory")
        place = f"/archives of {archives_image}" if archives_image else CLAIM
        console.print(f"what belongs into {place}: {', '.join(stored_files(served))}")
        console.print(f"wrote {output}; `kubectl apply -k {output}` applies it")
