"""Connects to the server that runs from a state directory, whatever its engine."""

from shipway.engines import ENGINES
from shipway.engines.protocol import Engine
from shipway.engines.state import StateDirectory


def connect(state: StateDirectory) -> Engine:
    """The engine of the server that runs from `state`.

    Raises NoServer, or UnknownName if its engine is not installed.
    """
    record = state.require_running()
    return ENGINES.get(record.engine)(state)
