"""`shipway rollback`."""

from shipway.cli.options import BecauseOption, NameArgument, StateOption
from shipway.cli.output import err, out, warn
from shipway.engines.state import state_directory


def rollback(name: NameArgument, because: BecauseOption = None, state: StateOption = None) -> None:
    """Make the previous default version the default again. Both versions stay registered."""
    # httpx and pydantic take a second to import.
    from shipway.releases.rollout import changing

    with (
        changing(state_directory(state), f"rolling back {name}", warn=warn) as rollout,
        err.status(f"Rolling back {name} …"),
    ):
        version, previous = rollout.rollback(name, because)
        stays = any((one.name, one.version) == (name, previous) for one in rollout.models())
    origin = f" from {previous}" if previous else ""
    outcome = f"; {previous} stays registered" if stays else ""
    out.print(f"rolled back {name}{origin} to {version}{outcome}")
