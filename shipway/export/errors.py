"""What can go wrong between a checkpoint and an artifact."""

from pathlib import Path

from shipway.errors import ShipwayError


class ExportError(ShipwayError):
    """The base of everything below."""


class UnreadableCheckpoint(ExportError):
    """The file is no state_dict: not there, a pickled module, or something else."""


class CheckpointDoesNotFit(ExportError):
    """The checkpoint's keys or shapes are not the module's."""


class BadInputs(ExportError):
    """Calibration or evaluation inputs do not fit the recipe's own description."""


class NothingPassed(ExportError):
    """No candidate may be served, or none that runs on every host."""


class ChildLost(ExportError):
    """The process that builds and measures crashed or hung."""

    def __init__(self, reason: str, log: Path) -> None:
        self.reason = reason
        super().__init__(f"The export could not go on: {reason}. What it printed is in {log}.")


class NothingFitsBudget(ExportError):
    """Every candidate that passed loses more than the accuracy budget allows."""

    def __init__(self, budget: float, lost: dict[str, float]) -> None:
        listed = ", ".join(
            f"{name} loses {points:.2f}"
            for name, points in sorted(lost.items(), key=lambda item: item[1])
        )
        super().__init__(
            f"No candidate loses at most {budget:g} points, so nothing was sealed: {listed}. "
            "Allow more with --accuracy-budget."
        )


class AnotherExportRuns(ExportError):
    """Two exports of one recipe into one folder would take each other's programs apart."""
