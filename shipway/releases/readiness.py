"""Why a server is not ready: which default versions are not warm."""

from collections.abc import Sequence
from contextlib import closing

from shipway.engines.connection import connect
from shipway.engines.errors import NoServer, Refused, Unreachable
from shipway.engines.protocol import ModelVersion
from shipway.engines.state import StateDirectory
from shipway.releases.history import read_releases


def ask_why_not_ready(state: StateDirectory, name: str | None = None) -> list[str]:
    """As `why_not_ready`, of the server that runs from `state`. Without one, that is the reason."""
    try:
        with closing(connect(state)) as engine:
            return why_not_ready(state, engine.versions(), name)
    except (NoServer, Unreachable, Refused) as error:
        return [str(error)]


def why_not_ready(
    state: StateDirectory, there: Sequence[ModelVersion], name: str | None = None
) -> list[str]:
    """Why the server is not ready, one reason each: every model, or `name`, needs a default version
    whose workers are all warm. Empty if it is ready.

    `there` is every version on the server. Raises ReleasesError.
    """
    if state.stopping_file.exists():
        return ["the server is stopping"]
    if state.unapplied_file.exists():
        return state.unapplied_file.read_text().splitlines()
    wanted = {
        each: release.default
        for each, release in read_releases(state).models.items()
        if release.default
    }
    names = [name] if name else sorted(wanted.keys() | {one.name for one in there})
    if not names:
        return ["no model is registered"]
    why = (
        _why_not_warm(each, wanted.get(each), [one for one in there if one.name == each])
        for each in names
    )
    return [reason for reason in why if reason]


def _why_not_warm(name: str, wanted: str | None, there: list[ModelVersion]) -> str | None:
    default = next((one for one in there if one.default), None)
    if default is None:
        return f"{name} is not registered"
    if wanted and wanted not in {one.version for one in there}:
        return f"{name} {wanted}, its default, is not registered"
    if not default.warm:
        ready = f"{default.workers_ready} of {default.workers} workers are ready"
        return f"{name} {default.version}, its default: {ready}"
    return None
