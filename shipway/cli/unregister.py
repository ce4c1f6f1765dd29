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
    """Take a version out of service once it has answered its requests.

    Its archive stays in the model store.
    """
    # httpx and pydantic take a second to import.
    from shipway.releases.rollout import changing

    where = state_directory(state)
    with (
        changing(where, f"unregistering {name} {version}", warn=warn) as rollout,
        err.status(f"Waiting for the requests of {name} {version} …"),
    ):
        rollout.unregister(name, version, because)
    with engine_of(where) as engine:
        gone = name not in {one.name for one in engine.versions()}
    left = f"; no version of {name} is left" if gone else ""
    out.print(f"unregistered {name} {version}{left}")
