"""`shipway promote`."""

import typer

from shipway.cli.options import BecauseOption, NameArgument, StateOption, VersionArgument
from shipway.cli.output import err, out, warn
from shipway.cli.server import inspector
from shipway.engines.state import state_directory


def promote(
    context: typer.Context,
    name: NameArgument,
    version: VersionArgument,
    because: BecauseOption = None,
    state: StateOption = None,
) -> None:
    """Make a version the default, after its answers match its certificate.

    A version that is not registered is registered from the model store. The previous default stays
    registered, for `shipway rollback`.
    """
    # httpx and pydantic take a second to import.
    from shipway.releases.rollout import changing

    inspect = inspector(context)
    with (
        changing(state_directory(state), f"promoting {name} {version}", warn=warn) as rollout,
        err.status(f"Promoting {name} {version} …") as status,
    ):
        done = rollout.promote(name, version, inspect=inspect, because=because, say=status.update)
    if done.previous == version:
        out.print(f"promoted {name} {version}: it was the default")
    elif done.previous:
        out.print(f"promoted {name} {version}, from {done.previous}: {done.compared}")
    else:
        out.print(f"promoted {name} {version}: {done.compared}")
