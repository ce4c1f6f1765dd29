"""The `shipway` command."""

import sys

import typer
from rich.console import Console
from rich.markup import escape

from shipway import __version__
from shipway.cli import bench, deploy, export, package, plan, server, tune
from shipway.cli.background import step_aside
from shipway.errors import ShipwayError

BESIDE_REQUESTS = ("apply", "promote", "register")
"""What is done while a server answers, and need not be quick."""

errors = Console(stderr=True, highlight=False, soft_wrap=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"shipway {__version__}")
        raise typer.Exit


def build_app() -> typer.Typer:
    """The command with the verbs of every installed room, in the order of a model's life."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def shipway(
        version: bool = typer.Option(
            False, "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ) -> None:
        """From a trained PyTorch state_dict to a model answering HTTP and gRPC requests."""

    for module in (export, package, server, bench, deploy, plan, tune):
        module.register(app)
    return app


def main() -> None:
    try:
        if sys.argv[1:2] and sys.argv[1] in BESIDE_REQUESTS:
            step_aside()
        build_app()()
    except ShipwayError as error:
        errors.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("stopped")
        sys.exit(130)


if __name__ == "__main__":
    main()
