"""`shipway package` and `shipway openapi`."""

from pathlib import Path

import typer
from rich.console import Console

console = Console(highlight=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    @app.command()
    def package(
        artifact: Path = typer.Argument(help="The folder that `shipway export` wrote."),
        model_store: Path = typer.Option(
            Path("model_store"), "--model-store", help="Where the .mar goes."
        ),
        sign: Path | None = typer.Option(
            None, "--sign", metavar="KEY.pem", help="Sign it with this EC key, for NAME.mar.sig."
        ),
    ) -> None:
        """Make a self-contained .mar of an artifact."""
        from shipway.archive import signatures
        from shipway.archive.mar import pack
        from shipway.artifact.bundle import open_artifact

        opened = open_artifact(artifact)
        path = pack(opened, model_store)
        manifest = opened.manifest
        programs = manifest.chosen
        if manifest.fallback != manifest.chosen:
            programs += f" with {manifest.fallback} for other hosts"
        console.print(
            f"[green]packaged[/] {manifest.name} {manifest.version}: {path} "
            f"({path.stat().st_size / 1e6:.1f} MB, {programs})"
        )
        if sign:
            console.print(f"[green]signed[/] {signatures.sign(path, sign)}")

    @app.command()
    def openapi(
        artifact: Path = typer.Argument(help="The folder that `shipway export` wrote."),
    ) -> None:
        """Print the OpenAPI description of what its archive answers, as JSON."""
        import json

        from shipway.artifact.bundle import open_artifact
        from shipway.serving.openapi import describe

        print(json.dumps(describe(open_artifact(artifact).manifest), indent=2, ensure_ascii=False))
