"""`shipway deploy kubernetes`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from shipway.cli.deploy_options import ArtifactsArgument, ModelsOption
from shipway.cli.output import err, out

CLAIM = "the volume claim shipway-model-store"


class Overlay(StrEnum):
    """The Kustomize overlay: which image and which resources a pod gets."""

    cpu = "cpu"
    gpu = "gpu"


def kubernetes(
    artifacts: ArtifactsArgument = None,
    models: ModelsOption = None,
    model_store: Annotated[
        Path,
        typer.Option(
            help="The folder with the .mar files of the artifacts and their tuned settings."
        ),
    ] = Path("model_store"),
    overlay: Annotated[
        Overlay, typer.Option(help="Run the models on CPUs or on GPUs.")
    ] = Overlay.cpu,
    image: Annotated[
        str | None,
        typer.Option(
            metavar="NAME:TAG",
            help="The container image to run, built from the Dockerfile. The default is "
            "shipway:cpu or shipway:gpu.",
            show_default=False,
        ),
    ] = None,
    archives_image: Annotated[
        str | None,
        typer.Option(
            metavar="NAME:TAG",
            help="A container image with the archives in /archives. It replaces the persistent "
            "volume claim.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The folder to write the manifests into.")
    ] = Path("kubernetes"),
) -> None:
    """Write Kubernetes manifests (a Kustomize folder) that serve artifacts on a cluster."""
    # pydantic takes half a second to import.
    from shipway.deploy.kubernetes import read_served, stored_files, write

    with err.status("Checking the artifacts and their archives …"):
        served = read_served(artifacts or [], models, model_store)
        needs = write(
            served, output, overlay=overlay.value, image=image, archives_image=archives_image
        )
    table = Table("model", "version", "default", "archive", box=None)
    for version in served:
        model = version.model
        default = "●" if model.default else ""
        table.add_row(model.name, model.version, default, version.digest[:12])
    out.print(table)
    out.print(f"each pod requests {needs.cpu} CPUs and {needs.memory} of memory")
    place = f"/archives of {archives_image}" if archives_image else CLAIM
    out.print(f"copy these files to {place}: {', '.join(stored_files(served))}")
    out.print(f"wrote {output}; apply it with `kubectl apply -k {output}`")
