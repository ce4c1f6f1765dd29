"""`shipway deploy`: a group of commands, one for each kind of cluster."""

import typer

from shipway.cli.deploy_kubernetes import kubernetes
from shipway.cli.deploy_ray import ray

app = typer.Typer(no_args_is_help=True)


@app.callback()
def deploy() -> None:
    """Deploy artifacts to Kubernetes or Ray Serve."""


app.command()(kubernetes)
app.command()(ray)
