"""Checks whether a node of a cluster can serve an artifact, in a task on that node."""

from dataclasses import dataclass
from pathlib import Path

from shipway.artifact.bundle import open_artifact
from shipway.errors import ShipwayError
from shipway.runtime.choice import choose_program


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether and how a node can serve an artifact."""

    problem: str | None = None
    """Why the node cannot serve it; None if it can."""
    remark: str | None = None
    """Which program it would run in place of the chosen one, and why; None for the chosen one."""


def fit_of(path: str, digest: str) -> Fit:
    """Whether the node that runs this can serve the artifact at `path` with this digest."""
    try:
        artifact = open_artifact(Path(path))
        if artifact.digest != digest:
            return Fit(f"{path} is another artifact on that node ({artifact.digest[:12]}…)")
        program, because = choose_program(artifact.manifest)
    except ShipwayError as error:
        return Fit(str(error))
    return Fit(
        remark=because
        and f"{program} runs instead of the chosen program of {artifact.manifest.name}: {because}"
    )
