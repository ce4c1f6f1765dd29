"""The `shipway` command: one app, with a command from each file of this folder."""

import errno
import os
import stat
import sys
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer
from rich.text import Text

from shipway import __version__
from shipway.cli import deploy, key
from shipway.cli.apply import apply
from shipway.cli.background import step_aside
from shipway.cli.bench import bench
from shipway.cli.describe import describe
from shipway.cli.export import export
from shipway.cli.models import models
from shipway.cli.new import new
from shipway.cli.openapi import openapi
from shipway.cli.output import err, print_any_text
from shipway.cli.package import package
from shipway.cli.plan import plan
from shipway.cli.predict import predict
from shipway.cli.promote import promote
from shipway.cli.ready import ready
from shipway.cli.register import register
from shipway.cli.releases import releases
from shipway.cli.rollback import rollback
from shipway.cli.serve import serve
from shipway.cli.stop import stop
from shipway.cli.tune import tune
from shipway.cli.unregister import unregister
from shipway.errors import ShipwayError

BESIDE_REQUESTS = ("apply", "promote", "register")
"""Commands that run beside a busy server and may take longer: they get a low priority."""

USERS_TO_SOLVE = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
}
"""Errors of the file system that a user can solve; all others are shown with a traceback."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"shipway {__version__}")
        raise typer.Exit


@app.callback()
def shipway(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Export a trained PyTorch state_dict, verify the result and serve it over HTTP and gRPC."""


# In the order of a model's life; `shipway --help` lists them in this order.
COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Export and package": (new, export, package, openapi),
    "Server and releases": (serve, ready, register, promote, rollback, unregister, apply, stop),
    "Models and predictions": (models, describe, releases, predict),
    "Load tests, tuning and capacity": (bench, tune, plan),
}
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(key.app, name="key", rich_help_panel="Server and releases")
app.add_typer(deploy.app, name="deploy", rich_help_panel="Deployment to clusters")


def _fail(message: str) -> NoReturn:
    err.print(Text.assemble(("error: ", "bold red"), message))
    sys.exit(1)


def main() -> None:
    """Runs the command line. Exit codes: 1 for an error, 2 for wrong arguments, 130 for Ctrl-C."""
    print_any_text()
    os.umask(os.umask(0) | stat.S_IWOTH)  # what is written and started is not for all to change
    try:
        if sys.argv[1:2] and sys.argv[1] in BESIDE_REQUESTS:
            step_aside()
        app()
    except ShipwayError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno not in USERS_TO_SOLVE:
            raise
        # Of a copy, what cannot be written is the second.
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
        path = error.filename2 if full and error.filename2 else error.filename
        place = f"{path}: " if path else ""
        _fail(f"{place}{error.strerror}. Check the path, its permissions and the free space.")
    except KeyboardInterrupt:
        err.print("stopped")
        sys.exit(130)


if __name__ == "__main__":
    main()
