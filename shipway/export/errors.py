"""Errors of an export."""

from collections.abc import Mapping
from pathlib import Path

from shipway.errors import ShipwayError


class ExportError(ShipwayError):
    """Base class of the errors of an export."""


class UnreadableCheckpoint(ExportError):
    """The file is not a state_dict: it does not exist, or holds a module or something else."""


class CheckpointDoesNotFit(ExportError):
    """The keys or shapes of the checkpoint differ from those of the module."""


class BadInputs(ExportError):
    """Something that the recipe names is missing or does not fit, such as the evaluation inputs."""


class NothingPassed(ExportError):
    """No candidate passed, or none that runs on every host."""


class ChildLost(ExportError):
    """The process that builds and measures crashed or hung."""

    def __init__(self, reason: str, log: Path) -> None:
        self.reason = reason
        self.log = log
        super().__init__(f"The export failed: {reason}. See {log} for the output of the process.")

    def __reduce__(self) -> tuple[type["ChildLost"], tuple[str, Path]]:
        return type(self), (self.reason, self.log)


class ProgramRefused(ExportError):
    """A program that cannot be opened or run in a process without the recipe."""


class NothingFitsBudget(ExportError):
    """No candidate keeps the accuracy budget."""

    def __init__(self, budget: float, verdicts: Mapping[str, str]) -> None:
        listed = "; ".join(f"{name} {verdict}" for name, verdict in verdicts.items())
        super().__init__(
            f"No candidate keeps the accuracy budget of {budget:g} points, so no artifact was "
            f"written: {listed}. Raise the budget with --accuracy-budget, or give more evaluation "
            "inputs."
        )


class AnotherExportRuns(ExportError):
    """Another process exports the same recipe into the same folder."""
