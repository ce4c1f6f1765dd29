"""`shipway deploy ray`."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from shipway.cli.deploy_options import Artifacts, Models
from shipway.deploy.errors import NotWritable

if TYPE_CHECKING:
    from shipway.engines.ray.config import Version

console = Console(highlight=False, soft_wrap=True, markup=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def add_to(deploy: typer.Typer) -> None:
    @deploy.command()
    def ray(
        artifacts: Artifacts = None,
        models: Models = None,
        address: Annotated[
            str | None,
            typer.Option(
                metavar="HOST:PORT",
                help="A running cluster. Without it, one on this machine, until Ctrl-C.",
                show_default=False,
            ),
        ] = None,
        output: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE.yaml",
                help="Write the config for `serve deploy` and deploy nothing.",
                show_default=False,
            ),
        ] = None,
        cores: Annotated[
            int | None,
            typer.Option(min=1, help="Of each replica. [the artifact's]", show_default=False),
        ] = None,
        min_replicas: Annotated[
            int, typer.Option(min=1, help="Of each version that models.yaml has no `workers` of.")
        ] = 1,
        max_replicas: Annotated[int, typer.Option(min=1, help="Likewise.")] = 4,
        host: Annotated[
            str, typer.Option(help="Where each node listens, where Serve is started.")
        ] = "127.0.0.1",
        port: Annotated[int, typer.Option(min=1, max=65535, help="Likewise.")] = 8000,
    ) -> None:
        """Serve artifacts with Ray Serve, on a cluster or on this machine.

        Artifacts lie at the same path on every node.
        """
        from shipway.deploy.versions import read_versions
        from shipway.engines.ray.config import Version, serve_config

        if max_replicas < min_replicas:
            raise typer.BadParameter(f"is below {min_replicas}.", param_hint="--max-replicas")
        versions = [
            Version(
                model=model,
                artifact=artifact,
                cores=cores,
                scaling=(min_replicas, max_replicas),
            )
            for model, artifact in read_versions(artifacts or [], models)
        ]
        config = partial(serve_config, versions, host=host, port=port)
        if output:
            _write(config(), output)
        else:
            _deploy(config, versions, address)


def _write(config: dict[str, Any], output: Path) -> None:
    import yaml

    whole = output.with_name(f"{output.name}.partial")
    try:
        whole.write_text(yaml.safe_dump(config, sort_keys=False))
        whole.replace(output)
    except OSError as error:
        with suppress(OSError):  # it may never have been there
            whole.unlink()
        raise NotWritable(output, error.strerror) from error
    console.print(f"wrote {output}; `serve deploy {output} --address http://HEAD:8265` applies it")


def _deploy(
    config: Callable[..., dict[str, Any]], versions: "list[Version]", address: str | None
) -> None:
    import signal

    from shipway.cli.server import end_as_by_ctrl_c
    from shipway.engines.ray.errors import RayMissing

    try:
        from shipway.engines.ray.cluster import cluster
    except ImportError as error:
        raise RayMissing(error) from error
    end_as_by_ctrl_c()
    with err.status("Connecting to Ray …") as status, cluster(address) as ray:
        status.update("Asking every node whether the artifacts fit …")
        for remark in ray.check(versions):
            err.print(remark, style="yellow")
        ray.apply(config(nodes=ray.size()), say=status.update)
        status.stop()
        for each in versions:
            console.print(f"{each.model}: {ray.address()}/predictions/{each.model.name}")
        if not address:
            console.print("Ctrl-C ends it.")
            try:
                signal.pause()
            except KeyboardInterrupt:
                console.print("stopped")
