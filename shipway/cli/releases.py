"""`shipway releases`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table

from shipway.cli.options import JsonOption, NameArgument, StateOption
from shipway.cli.output import lines, out, print_json
from shipway.cli.server import print_differences
from shipway.engines.state import state_directory
from shipway.releases.errors import ReleasesError

if TYPE_CHECKING:
    from shipway.releases.history import Event, Release


def releases(name: NameArgument, as_json: JsonOption = False, state: StateOption = None) -> None:
    """Show the release history of a model: every change, its time, its user and its reason."""
    # pydantic takes half a second to import.
    from shipway.releases.history import read_releases

    where = state_directory(state)
    history = read_releases(where)
    release = history.models.get(name)
    if release is None:
        known = ", ".join(sorted(history.models)) or "none"
        raise ReleasesError(
            f"There is no release history of a model {name!r} in {where.releases_file}. Give "
            f"one of these models: {known}."
        )
    if as_json:
        print_json(release.model_dump(mode="json"))
        return
    lines.print(_history_table(release.history))
    out.print(_current_state(name, release))
    if where.running():
        print_differences(where, [name])


def _history_table(history: "Iterable[Event]") -> Table:
    table = Table("when", "what", "version", "default", "by", "archive", "because", box=None)
    for event in history:
        table.add_row(
            event.at,
            event.what,
            event.version,
            event.default or "–",
            event.by,
            event.digest[:12],
            event.because or "",
        )
    return table


def _current_state(name: str, release: "Release") -> str:
    if release.default is None:
        if not release.versions:
            return f"No version of {name} is registered."
        way = f"shipway rollback {name}" if release.fallback else f"shipway promote {name} VERSION"
        return f"{name} has no default version; choose one with `{way}`."
    if release.fallback is None:
        return (
            f"The default version of {name} is {release.default}; there is no previous version to "
            "roll back to."
        )
    return (
        f"The default version of {name} is {release.default}; return to {release.fallback} with "
        f"`shipway rollback {name}`."
    )
