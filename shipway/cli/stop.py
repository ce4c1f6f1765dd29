"""`shipway stop`."""

from shipway.cli.options import StateOption
from shipway.cli.output import err, out
from shipway.engines.state import state_directory


def stop(state: StateOption = None) -> None:
    """Stop the server and its workers."""
    # httpx and pydantic take a second to import.
    from shipway.engines.torchserve import launch

    with err.status("Stopping TorchServe and its workers …"):
        record = launch.stop(state_directory(state))
    out.print(f"stopped the server at {record.addresses.inference}")
