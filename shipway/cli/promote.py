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
    """Compare the outputs of a version with its certificate, then make it the default version.

    If the version is not registered, it is first registered from the model store. The previous
    default version stays registered, so that `shipway rollback` can restore it.
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
        out.print(f"{name} {version} is already the default version")
    elif done.previous:
        out.print(f"promoted {name} {version} (previous default: {done.previous}): {done.compared}")
    else:
        out.print(f"promoted {name} {version}: {done.compared}")
