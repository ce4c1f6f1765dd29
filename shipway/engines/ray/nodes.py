"""What each node of a cluster makes of an artifact, found out by a task on the node itself."""

from dataclasses import dataclass
from pathlib import Path

from shipway.artifact.bundle import open_artifact
from shipway.errors import ShipwayError
from shipway.runtime.choice import choose_program


@dataclass(frozen=True, slots=True)
class Fit:
    """What a node would do with an artifact."""

    problem: str | None = None
    """Why it cannot serve it."""
    remark: str | None = None
    """Which other program than the chosen one it would run, and why."""


def fit_of(path: str, digest: str) -> Fit:
    """On the node where this runs."""
    try:
        artifact = open_artifact(Path(path))
        if artifact.digest != digest:
            return Fit(f"{path} is another artifact there ({artifact.digest[:12]}…)")
        program, because = choose_program(artifact.manifest)
    except ShipwayError as error:
        return Fit(str(error))
    return Fit(remark=because and f"runs {program} of {artifact.manifest.name}: {because}")
