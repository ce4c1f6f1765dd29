"""Errors of load tests, of tuning and of planning."""

from typing import TYPE_CHECKING

from shipway.errors import ShipwayError

if TYPE_CHECKING:
    from shipway.loadtest.result import Result


class BenchError(ShipwayError):
    """Base of every error that this package raises."""


class NotReady(BenchError):
    """The server does not answer, so there is nothing to measure."""


class NoInput(BenchError):
    """There is no input to send, or the model refuses it."""


class ReportError(BenchError):
    """A report cannot be written or read, or says too little."""


class GeneratorFailed(BenchError):
    """The load generator's process ended before the load did."""


class TooFewFiles(BenchError):
    """This process may not open as many connections as the load has clients."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a load. `result` holds what was measured until then."""

    def __init__(self, result: "Result") -> None:
        super().__init__()
        self.result = result


class NoSettingKeeps(BenchError):
    """No setting keeps the latency target, not even at the lowest rate."""


class NoReplicaKeeps(BenchError):
    """No replica keeps the latency target, not even at a very low rate."""
