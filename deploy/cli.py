"""`shipway deploy`."""

import typer

from deploy.kubernetes import cli as kubernetes
from deploy.ray import cli as ray


def register(app: typer.Typer) -> None:
    deploy = typer.Typer(no_args_is_help=True, help="Serve artifacts on many machines.")
    app.add_typer(deploy, name="deploy")

    @deploy.callback()
    def callback() -> None:
        """Serve artifacts on many machines."""

    kubernetes.add_to(deploy)
    ray.add_to(deploy)
