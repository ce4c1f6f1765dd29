"""What can go wrong before, and in, a load test."""

from typing import TYPE_CHECKING

from shipway.errors import ShipwayError

if TYPE_CHECKING:
    from shipway.loadtest.result import Result


class BenchError(ShipwayError):
    """Base of every error that this package raises."""


class NotReady(BenchError):
    """The server does not answer this request, so there is nothing to measure."""


class NoInput(BenchError):
    """Nothing to send."""


class ReportError(BenchError):
    """A report that cannot be written, or an earlier one that cannot be read."""


class GeneratorFailed(BenchError):
    """The load generator's process ended before the load did."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of a load; what was measured until then is kept."""

    def __init__(self, result: "Result") -> None:
        super().__init__()
        self.result = result


class NoSettingKeeps(BenchError):
    """Not even the lowest rate stays below the latency that was asked for."""


class NoReplicaKeeps(BenchError):
    """No replica, not even one that is hardly asked, stays below the latency that was asked for."""
