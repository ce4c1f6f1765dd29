"""The command that starts the metrics exporter beside the server that it reports on."""

import sys

from shipway.engines.state import StateDirectory

MODULE = "shipway.releases.exporter"


def exporter_command(state: StateDirectory, host: str, port: int) -> list[str]:
    """The command that exports the metrics of the server in `state` on `host` and `port`."""
    return [sys.executable, "-m", MODULE, str(state.path.resolve()), host, str(port)]
