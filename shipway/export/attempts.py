"""Tries every technique: in the child process, one at a time; builds what is not in the cache."""

from collections.abc import Collection, Mapping
from pathlib import Path

from shipway.artifact.certificate import Candidate, LayerSensitivity
from shipway.export import worker
from shipway.export.candidate_cache import (
    load_candidates,
    programs_in,
    store_candidate,
    written_since,
)
from shipway.export.child_process import Child
from shipway.export.errors import ChildLost, NothingPassed
from shipway.export.steps import Steps
from shipway.export.techniques import TECHNIQUES, in_order
from shipway.export.techniques.base import Technique


def try_techniques(
    child: Child, steps: Steps, folder: Path, only: Collection[str] = ()
) -> dict[str, Candidate]:
    """Builds and verifies a candidate by every technique, or by those named in `only`.

    `folder` is the candidate cache's. Programs in it that are made of the same parts as this run's
    are verified, and not built. A crash or a hang is the candidate's verdict.
    """
    candidates: dict[str, Candidate] = {}
    cached = load_candidates(folder, child.run(worker.made_of))
    for name, technique in in_order().items():
        if only and name not in only:
            continue
        kept = cached.get(name)
        if kept is not None and kept.passed:
            kept = _verify_again(child, steps, name, kept)
        candidates[name] = kept or _build(child, steps, folder, technique)
    return candidates


def _verify_again(child: Child, steps: Steps, name: str, cached: Candidate) -> Candidate | None:
    """A program from the cache, compared with this run's eager; None if it has to be built."""
    with steps.step(f"verifying {name}, which an earlier run built") as step:
        try:
            candidate = child.run(worker.verify_again, name)
        except ChildLost:
            candidate = None
        if candidate is None or not candidate.passed:
            step.note("refused")
            return None
        step.note("passed")
    return candidate.model_copy(update={"build_seconds": cached.build_seconds})


def _build(child: Child, steps: Steps, folder: Path, technique: Technique) -> Candidate:
    with steps.step(f"building and verifying {technique.name}") as step:
        before = programs_in(folder)
        try:
            candidate = child.run(worker.attempt, technique.name)
        except ChildLost as error:  # the machine's fault or the program's: it is tried again
            candidate = worker.refused(technique, error.reason)
        else:
            if not candidate.verdict.startswith(worker.SKIPPED):  # what is missing may come
                program = technique.file if candidate.passed else None
                files = written_since(before, folder, program)
                made_of = child.run(worker.made_of)
                store_candidate(folder, technique.name, candidate, made_of, files)
        step.note(_outcome(candidate))
    return candidate


def _outcome(candidate: Candidate) -> str:
    if candidate.passed:
        return "passed"
    return "skipped" if candidate.verdict.startswith(worker.SKIPPED) else "refused"


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
