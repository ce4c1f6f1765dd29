"""Functions that several commands use with the running server."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from shipway.cli.output import err
from shipway.engines.state import StateDirectory

if TYPE_CHECKING:
    from shipway.archive.inspect import MarInfo
    from shipway.engines.protocol import Engine

Inspect = Callable[[Path], "MarInfo"]
"""Checks an archive and describes it. Raises ArchiveError."""


def inspector(context: typer.Context) -> Inspect:
    """The function that checks archives: `inspect_mar`, or the `obj` that was passed to the app."""
    if context.obj is not None:
        return context.obj
    # pydantic takes half a second to import.
    from shipway.archive.inspect import inspect_mar

    return inspect_mar


@contextmanager
def engine_of(state: StateDirectory) -> "Iterator[Engine]":
    """The running server, whichever engine it is. Raises NoServer."""
    # httpx takes half a second to import.
    from shipway.engines.connection import connect

    with closing(connect(state)) as engine:
        yield engine


def print_differences(state: StateDirectory, names: list[str] | None = None) -> None:
    """Prints where the server differs from the file of releases, for some models or for all."""
    # httpx and pydantic take a second to import.
    from shipway.releases.differences import differences
    from shipway.releases.history import read_releases

    noted = read_releases(state).models
    with engine_of(state) as engine:
        versions = engine.versions()
    registered = {version.name for version in versions}
    for name in names or sorted(noted.keys() | registered):
        of_model = [version for version in versions if version.name == name]
        for difference in differences(name, noted.get(name), of_model):
            err.print(f"note: {difference}", style="yellow")
