"""What several commands do with the running server."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from shipway.cli.output import err
from shipway.engines.state import StateDirectory

if TYPE_CHECKING:
    from shipway.archive.mar import MarInfo
    from shipway.engines.torchserve.management import ManagementClient

Inspect = Callable[[Path], "MarInfo"]
"""Checks an archive and describes it. Raises ArchiveError."""


def inspector(context: typer.Context) -> Inspect:
    """What checks archives: `inspect_mar`, or what the caller of the app passed as its `obj`."""
    if context.obj is not None:
        return context.obj
    # pydantic takes half a second to import.
    from shipway.archive.mar import inspect_mar

    return inspect_mar


@contextmanager
def management(state: StateDirectory) -> "Iterator[ManagementClient]":
    """A client of the server's management API. Raises NoServer."""
    # httpx takes half a second to import.
    from shipway.engines.torchserve.management import ManagementClient

    with closing(ManagementClient(state)) as client:
        yield client


def print_differences(state: StateDirectory, names: list[str] | None = None) -> None:
    """Prints where the server differs from the file of releases, for some models or for all."""
    # httpx and pydantic take a second to import.
    from shipway.releases.history import read_releases
    from shipway.releases.rollout import differences, versions_on

    noted = read_releases(state).models
    with management(state) as client:
        for name in names or sorted(noted.keys() | set(client.names())):
            for difference in differences(name, noted.get(name), versions_on(client, name)):
                err.print(f"note: {difference}", style="yellow")
