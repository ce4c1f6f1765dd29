"""`shipway deploy ray`."""

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shipway.cli.deploy_options import ArtifactsArgument, ModelsOption
from shipway.cli.output import err, out, warn
from shipway.cli.signals import end_as_by_ctrl_c
from shipway.deploy.errors import NotWritable
from shipway.engines.ray.errors import RayMissing
from shipway.files import atomic_write

if TYPE_CHECKING:
    from shipway.artifact.bundle import Artifact
    from shipway.engines.ray.config import Version
    from shipway.releases.models_file import Model

AddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="The address of a running Ray cluster. The default is a new cluster on this machine "
        "that runs until Ctrl-C.",
        show_default=False,
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.yaml",
        help="Write a configuration file for `serve deploy` instead of deploying.",
        show_default=False,
    ),
]
CoresOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="The number of CPU cores per replica. The default is the number in the artifact.",
        show_default=False,
    ),
]
MinReplicasOption = Annotated[
    int,
    typer.Option(
        min=1,
        help="The smallest number of replicas of a version, unless models.yaml sets its `workers`.",
    ),
]
MaxReplicasOption = Annotated[
    int,
    typer.Option(
        min=1,
        help="The largest number of replicas of a version, unless models.yaml sets its `workers`.",
    ),
]
HostOption = Annotated[
    str,
    typer.Option(
        help="The address that Ray Serve listens on, on every node. It is ignored if Ray Serve is "
        "already running."
    ),
]
PortOption = Annotated[
    int,
    typer.Option(
        min=1,
        max=65535,
        help="The port that Ray Serve listens on, on every node. It is ignored if Ray Serve is "
        "already running.",
    ),
]


def ray(
    artifacts: ArtifactsArgument = None,
    models: ModelsOption = None,
    address: AddressOption = None,
    output: OutputOption = None,
    cores: CoresOption = None,
    min_replicas: MinReplicasOption = 1,
    max_replicas: MaxReplicasOption = 4,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
) -> None:
    """Serve artifacts with Ray Serve, on a cluster or on this machine.

    The artifacts must be at the same path on every node.
    """
    # pydantic takes half a second to import.
    from shipway.deploy.versions import read_versions
    from shipway.engines.ray.config import serve_config

    if max_replicas < min_replicas:
        raise typer.BadParameter(
            f"{max_replicas} is less than --min-replicas ({min_replicas}). Give a larger number.",
            param_hint="--max-replicas",
        )
    versions = [
        ray_version(model, artifact, cores=cores, scaling=(min_replicas, max_replicas))
        for model, artifact in read_versions(artifacts or [], models)
    ]
    config = partial(serve_config, versions, host=host, port=port)
    if output:
        _write(config(), output)
    else:
        _deploy(config, versions, address)


def ray_version(
    model: "Model",
    artifact: "Artifact",
    *,
    cores: int | None = None,
    scaling: tuple[int, int] = (1, 4),
) -> "Version":
    """The settings with which Ray Serve runs a version of a models file.

    `scaling` is the smallest and the largest number of replicas, unless the file sets `workers`.
    """
    # pydantic takes half a second to import.
    from shipway.engines.ray.config import Version

    return Version(
        artifact=artifact,
        default=bool(model.default),
        workers=model.workers,
        batch_size=model.batch_size,
        max_batch_delay_ms=model.max_batch_delay_ms,
        cores=cores,
        scaling=scaling,
    )


def _write(config: dict[str, Any], output: Path) -> None:
    # yaml would slow down the start of every command.
    import yaml

    try:
        atomic_write(output, yaml.safe_dump(config, sort_keys=False))
    except OSError as error:
        raise NotWritable(output, error.strerror) from error
    out.print(f"wrote {output}; apply it with `serve deploy {output} --address http://HEAD:8265`")


def _deploy(
    config: Callable[..., dict[str, Any]], versions: "list[Version]", address: str | None
) -> None:
    try:
        # Ray is an optional dependency.
        from shipway.engines.ray.cluster import cluster
    except ImportError as error:
        raise RayMissing(error) from error
    end_as_by_ctrl_c()
    with err.status("Connecting to Ray …") as status, cluster(address) as ray_cluster:
        status.update("Checking the artifacts on every node …")
        for remark in ray_cluster.check(versions):
            warn(remark)
        ray_cluster.apply(config(nodes=ray_cluster.size()), say=status.update)
        status.stop()
        for version in versions:
            url = f"{ray_cluster.address()}/predictions/{version.name}"
            out.print(f"{version.name} {version.version}: {url}")
        if not address:
            out.print("Press Ctrl-C to stop the cluster.")
            try:
                signal.pause()
            except KeyboardInterrupt:
                out.print("stopped")
