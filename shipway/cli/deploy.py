"""`shipway deploy`."""

import typer

from shipway.cli import deploy_kubernetes as kubernetes
from shipway.cli import deploy_ray as ray


def register(app: typer.Typer) -> None:
    deploy = typer.Typer(no_args_is_help=True, help="Serve artifacts on many machines.")
    app.add_typer(deploy, name="deploy")

    @deploy.callback()
    def callback() -> None:
        """Serve artifacts on many machines."""

    kubernetes.add_to(deploy)
    ray.add_to(deploy)
