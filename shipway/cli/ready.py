"""`shipway ready`."""

import time
from typing import Annotated

import typer

from shipway.cli.options import StateOption
from shipway.cli.output import err, out
from shipway.engines.state import state_directory

POLL_S = 0.5


def ready(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="The model to check. The default is every model.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0, help="The longest time to wait until the server is ready."
        ),
    ] = 0,
    state: StateOption = None,
) -> None:
    """Check whether the server is ready.

    The exit code is 0 if all workers of every model's default version are ready, otherwise 1.
    """
    # httpx and pydantic take a second to import.
    from shipway.releases.readiness import ask_why_not_ready

    where = state_directory(state)
    deadline = time.monotonic() + wait
    with err.status("Contacting the server …") as status:
        while (reasons := ask_why_not_ready(where, name)) and time.monotonic() < deadline:
            status.update(f"Waiting: {reasons[0]} …")
            time.sleep(POLL_S)
    for reason in reasons:
        err.print(f"not ready: {reason}", style="red")
    if reasons:
        raise typer.Exit(1)
    out.print("ready")
