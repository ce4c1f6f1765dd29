"""`shipway package`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from shipway.cli.options import ArtifactArgument
from shipway.cli.output import err, out


def package(
    artifact: ArtifactArgument,
    model_store: Annotated[
        Path,
        typer.Option("--model-store", file_okay=False, help="The folder to write the .mar into."),
    ] = Path("model_store"),
    sign: Annotated[
        Path | None,
        typer.Option(
            "--sign",
            metavar="KEY.pem",
            exists=True,
            dir_okay=False,
            help="Sign the archive with this EC private key. The signature is written to "
            "NAME-VERSION.mar.sig in the same folder.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Package an artifact as a self-contained .mar archive."""
    # pydantic takes half a second to import.
    from shipway.archive import signatures
    from shipway.archive.pack import pack
    from shipway.artifact.bundle import open_artifact

    with err.status(f"Checking {artifact} and writing the archive …"):
        opened = open_artifact(artifact)
        path = pack(opened, model_store)
    manifest = opened.manifest
    programs = manifest.chosen
    if manifest.fallback != manifest.chosen:
        programs += f", fallback {manifest.fallback}"
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    summary = f" {manifest.name} {manifest.version}: {path} ({size}, {programs})"
    out.print(Text.assemble(("packaged", "green"), summary))
    if sign:
        out.print(Text.assemble(("signed", "green"), f" {signatures.sign(path, sign)}"))
