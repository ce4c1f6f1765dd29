"""`shipway unregister`."""

from shipway.cli.options import BecauseOption, NameArgument, StateOption, VersionArgument
from shipway.cli.output import err, out, warn
from shipway.cli.server import engine_of
from shipway.engines.state import state_directory


def unregister(
    name: NameArgument,
    version: VersionArgument,
    because: BecauseOption = None,
    state: StateOption = None,
) -> None:
    """Unregister a version after it has answered its pending requests.

    Its archive stays in the model store.
    """
    # httpx and pydantic take a second to import.
    from shipway.releases.rollout import changing

    where = state_directory(state)
    with (
        changing(where, f"unregistering {name} {version}", warn=warn) as rollout,
        err.status(f"Waiting for {name} {version} to answer its pending requests …"),
    ):
        rollout.unregister(name, version, because)
    with engine_of(where) as engine:
        gone = name not in {one.name for one in engine.versions()}
    left = f"; {name} has no registered version any more" if gone else ""
    out.print(f"unregistered {name} {version}{left}")
