"""Tries every technique: in the child process, one at a time, finished ones from the cache."""

from collections.abc import Collection, Mapping
from pathlib import Path

from shipway.artifact.certificate import Candidate, LayerSensitivity
from shipway.export import worker
from shipway.export.candidate_cache import load_candidate, store_candidate
from shipway.export.child_process import Child
from shipway.export.errors import ChildLost, NothingPassed
from shipway.export.steps import Steps
from shipway.export.techniques import TECHNIQUES, in_order


def try_techniques(
    child: Child, steps: Steps, folder: Path, only: Collection[str] = ()
) -> dict[str, Candidate]:
    """Builds and verifies a candidate by every technique, or by those named in `only`.

    `folder` is the candidate cache's. A crash or a hang is the candidate's verdict.
    """
    candidates: dict[str, Candidate] = {}
    for name, technique in in_order().items():
        if only and name not in only:
            continue
        if cached := load_candidate(folder, name, folder / "programs" / technique.file):
            candidates[name] = cached
            continue
        with steps.step(f"building and verifying {name}") as step:
            try:
                candidates[name] = child.run(worker.attempt, name)
            except ChildLost as error:
                candidates[name] = worker.refused(technique, error.reason)
            else:
                store_candidate(folder, name, candidates[name])
            step.note(_outcome(candidates[name]))
    return candidates


def _outcome(candidate: Candidate) -> str:
    if candidate.passed:
        return "passed"
    return "skipped" if candidate.verdict.startswith("skipped") else "refused"


def check_portable(candidates: Mapping[str, Candidate], log: Path) -> None:
    """Raises NothingPassed, with every verdict, unless a portable candidate passed."""
    portable = (TECHNIQUES.get(name).portable for name, each in candidates.items() if each.passed)
    if not any(portable):
        verdicts = "\n".join(f"  {name}: {each.verdict}" for name, each in candidates.items())
        raise NothingPassed(
            "No portable candidate passed, that is, one that runs on every host, so no "
            f"artifact was written.\n{verdicts}\nSee the log for the causes: {log}"
        )


def rank_layers(
    child: Child, steps: Steps, candidates: Mapping[str, Candidate]
) -> tuple[LayerSensitivity, ...]:
    """What quantizing each layer costs, if a candidate's technique ranks its layers.

    Empty if none does, or if the ranking crashed: the report can do without it.
    """
    name = next((name for name in candidates if TECHNIQUES.get(name).layer_ranking), None)
    if name is None:
        return ()
    with steps.step("ranking layers by their sensitivity to int8") as step:
        try:
            return child.run(worker.rank_layers, name)
        except ChildLost:
            step.note("failed")
            return ()
