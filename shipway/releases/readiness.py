"""Why a server is not ready: which default versions are not warm."""

from collections.abc import Sequence
from contextlib import closing

from shipway.engines.connection import connect
from shipway.engines.errors import NoServer, Refused, Unreachable
from shipway.engines.protocol import ModelVersion
from shipway.engines.state import StateDirectory
from shipway.releases.history import read_releases
from shipway.releases.without_default import read_unrestored


def ask_why_not_ready(state: StateDirectory, name: str | None = None) -> list[str]:
    """`why_not_ready` for the server that runs from `state`. A missing server is a reason too."""
    try:
        with closing(connect(state)) as engine:
            unreachable = engine.why_unreachable()
            return why_not_ready(state, engine.versions(), name, unreachable=unreachable)
    except (NoServer, Unreachable, Refused) as error:
        return [str(error)]


def why_not_ready(
    state: StateDirectory,
    versions: Sequence[ModelVersion],
    name: str | None = None,
    *,
    unreachable: str | None = None,
) -> list[str]:
    """The reasons why the server is not ready; empty if it is ready.

    Every model, or only `name`, needs a default version whose workers are all warm. `versions` are
    all versions on the server; `unreachable` is why no request reaches them, or None. Raises
    ReleasesError.
    """
    if state.stopping_file.exists():
        return ["the server is stopping"]
    if unreachable:
        return [unreachable]
    if state.unapplied_file.exists():
        return state.unapplied_file.read_text().splitlines()
    defaults = {
        model: release.default
        for model, release in read_releases(state).models.items()
        if release.default
    }
    names = [name] if name else sorted(defaults.keys() | {version.name for version in versions})
    if not names:
        return ["no model is registered"]
    unrestored = read_unrestored(state)
    reasons = (
        _why_not_warm(
            model,
            defaults.get(model),
            [version for version in versions if version.name == model],
            unrestored.get(model),
        )
        for model in names
    )
    return [reason for reason in reasons if reason]


def _why_not_warm(
    name: str, recorded: str | None, versions: list[ModelVersion], unrestored: str | None
) -> str | None:
    default = next((version for version in versions if version.default), None)
    if not versions and not (recorded and unrestored):
        return f"{name} is not registered"
    if recorded and recorded not in {version.version for version in versions}:
        missing = f"{name} {recorded} (the default version) is not registered"
        return f"{missing}: {unrestored}" if unrestored else missing
    if default is None:
        return (
            f"{name} has no default version. Make one the default with `shipway promote {name} "
            f"{recorded or versions[-1].version}`"
        )
    if default.out_of_service:
        return (
            f"{name} {default.version} (the default version) is out of service for a while, since "
            "its workers died too often"
        )
    if not default.workers:
        return f"{name} {default.version} (the default version) is scaled to 0 workers"
    if not default.warm:
        ready = f"{default.workers_ready} of {default.workers} workers are ready"
        return f"{name} {default.version} (the default version): {ready}"
    return None
