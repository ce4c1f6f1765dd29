"""`shipway deploy kubernetes`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

console = Console(highlight=False, soft_wrap=True, markup=False)


class Overlay(StrEnum):
    cpu = "cpu"
    gpu = "gpu"


def add_to(deploy: typer.Typer) -> None:
    @deploy.command()
    def kubernetes(
        artifacts: Annotated[
            list[Path] | None,
            typer.Argument(
                metavar="ARTIFACT",
                help="Folders that `shipway export` wrote. Of one model, the last is the default.",
                show_default=False,
            ),
        ] = None,
        models: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE",
                help="A models.yaml that names the artifacts; all that is served.",
                show_default=False,
            ),
        ] = None,
        model_store: Annotated[
            Path, typer.Option(help="Where their archives are, for the digests.")
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
        from deploy.kubernetes.render import read_served, write

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
        if not archives_image:
            console.print(
                "the archives belong into the volume claim shipway-model-store: "
                + ", ".join(each.stored_as for each in served)
            )
        console.print(f"wrote {output}; `kubectl apply -k {output}` applies it")
