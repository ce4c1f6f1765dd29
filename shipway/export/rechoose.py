"""The choice made again on another host, from a sealed artifact and without the checkpoint.

Eager PyTorch is not available here. So programs are compared with the outputs of eager that the
artifact carries as samples, and their latencies with each other.
"""

import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shipway.artifact.bundle import PLUGINS, Artifact, open_artifact
from shipway.artifact.certificate import Candidate, Latency
from shipway.artifact.errors import AlreadySealed
from shipway.artifact.manifest import Manifest, Requirements
from shipway.artifact.samples import allowed_error, error_of, file_of
from shipway.export.child_process import Child, child_process
from shipway.export.choice import Objective
from shipway.export.clean_process import one_line
from shipway.export.errors import ChildLost, NothingPassed
from shipway.export.measure import race
from shipway.export.pipeline import Exported
from shipway.export.sealing import seal_again
from shipway.export.speed import Outcome, measure_and_choose
from shipway.export.steps import Steps
from shipway.export.verify import run_in_batches, why_other_outputs
from shipway.plugins import load_plugins
from shipway.runtime.batches import Arrays, shaped
from shipway.runtime.choice import unsupported_reason
from shipway.runtime.host import available_cores, describe_host
from shipway.runtime.program import open_program
from shipway.tasks import TASKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The artifact that a child process opens for itself."""

    path: Path
    log: Path

    def begin(self) -> None:
        """Opens the artifact in the child process, plugins included."""
        global _artifact, _samples
        _artifact = open_with_plugins(self.path)
        _samples = read_samples(_artifact)


_artifact: Artifact
_samples: Arrays


def open_with_plugins(path: Path) -> Artifact:
    """Opens an artifact and imports the plugins that it carries.

    Raises ArtifactError, PluginError, or UnknownName if nothing provides its task.
    """
    artifact = open_artifact(path)
    load_plugins(artifact.manifest.plugins, path / PLUGINS)
    TASKS.get(artifact.manifest.task)
    return artifact


def read_samples(artifact: Artifact) -> Arrays:
    """The sample rows of each input, in the manifest's order."""
    return tuple(_read(artifact, spec.name) for spec in artifact.manifest.inputs)


def _read(artifact: Artifact, name: str) -> np.ndarray:
    array: np.ndarray = np.load(artifact.path / file_of(name), allow_pickle=False)
    return array


def recheck(name: str) -> str | None:
    """Why a program does not give the certified outputs on this host, or None. In the child."""
    manifest = _artifact.manifest
    certified = _artifact.certificate.candidates[name]
    try:
        program = open_program(_artifact, name, threads=available_cores())
        outputs = run_in_batches(program, _samples, manifest.inputs, manifest.max_batch)
    except Exception as error:  # runtimes share no class of errors
        traceback.print_exc()
        return f"on this host it cannot be opened or run: {one_line(error)}"
    assert certified.tolerance is not None
    measures = _artifact.certificate.outputs
    references = {measure.name: _read(_artifact, measure.name) for measure in measures}
    if reason := why_other_outputs(references, outputs):
        return f"on this host {reason}"
    for measure, output in zip(measures, outputs, strict=True):
        distance = error_of(references[measure.name], output, measure)
        allowed = allowed_error(measure, certified.tolerance)
        if not distance <= allowed:  # also true for NaN
            return (
                f"on this host its output {measure.name} has a relative error of {distance:.2g}, "
                f"more than {allowed:.2g}"
            )
    return None


def measure(
    names: Iterable[str], shapes: tuple[str, ...], threads: int, with_eager: bool
) -> dict[str, dict[str, Latency]]:
    """Latencies by shape and program, measured in turns; never eager's. In the child."""
    programs = {name: open_program(_artifact, name, threads=threads) for name in names}
    latencies = {}
    for shape in shapes:
        rows, _, length = shape.partition("x")
        batch = shaped(
            _samples, _artifact.manifest.inputs, int(rows), int(length) if length else None
        )
        latencies[shape] = race(programs, batch, threads=threads)
    return latencies


def rechoose(
    path: Path,
    steps: Steps,
    *,
    out: Path,
    version: str | None = None,
    objective: Objective = "latency",
    budget: float | None = None,
) -> Exported:
    """Checks, measures and chooses again on this host; seals `out`/NAME-VERSION.

    The losses are the certified ones. `budget` is in points, see losses.loss_of; the certificate's
    if None. Raises ArtifactError for an artifact that is not whole, AlreadySealed if the
    destination exists, PluginError, UnknownName, NothingPassed or NothingFitsBudget.
    """
    with steps.step("checking the artifact"):
        artifact = open_with_plugins(path.resolve())
    manifest, certificate = artifact.manifest, artifact.certificate
    budget = certificate.budget if budget is None else budget
    version = version or manifest.version
    destination = out / f"{manifest.name}-{version}"
    if destination.exists():
        raise AlreadySealed(destination)
    out.mkdir(parents=True, exist_ok=True)
    assignment = Assignment(path=artifact.path, log=out / f"{destination.name}.log")
    with child_process(assignment) as child:
        candidates = _recheck_all(child, steps, artifact)
        if not any(candidate.passed for candidate in candidates.values()):
            raise NothingPassed(
                f"No program of {path} passed verification on this host. "
                "Export the model on this host."
            )
        outcome = measure_and_choose(
            child,
            steps,
            candidates,
            certificate.shapes,
            manifest.inputs,
            objective=objective,
            budget=budget,
            cores=available_cores(),
            measure=measure,
        )
    certificate = certificate.model_copy(
        update={
            "host": describe_host(),
            "budget": budget,
            "eager": {},
            "candidates": outcome.candidates,
        }
    )
    manifest = manifest.model_copy(
        update={
            "version": version,
            "chosen": outcome.choice.name,
            "chosen_because": outcome.choice.because,
            "objective": objective,
            "pareto": outcome.choice.pareto,
            "fallback": _fallback(manifest, outcome),
            "serving": outcome.serving,
        }
    )
    with steps.step("sealing"):
        seal_again(artifact.path, destination, manifest, certificate, budget)
    return Exported(path=destination, manifest=manifest, certificate=certificate)


def _fallback(manifest: Manifest, outcome: Outcome) -> str:
    """The artifact's fallback; if it was refused, another program that needs nothing of a host."""
    names = [manifest.fallback] + [
        name
        for name, program in reversed(manifest.programs.items())
        if program.device == "cpu" and program.requires == Requirements()
    ]
    passed = (name for name in names if outcome.candidates[name].passed)
    return next(passed, outcome.choice.name)


def _recheck_all(child: Child, steps: Steps, artifact: Artifact) -> dict[str, Candidate]:
    """The certified candidates; those that this host cannot run as certified are refused."""
    candidates = dict(artifact.certificate.candidates)
    for name, program in artifact.manifest.programs.items():
        reason = unsupported_reason(program)
        if reason is None:
            with steps.step(f"checking {name} on this host") as step:
                try:
                    reason = child.run(recheck, name)
                except ChildLost as error:
                    reason = f"on this host it cannot be opened or run: {error.reason}"
                step.note("passed" if reason is None else "refused")
        if reason is not None:
            update = {"passed": False, "verdict": reason}
            candidates[name] = candidates[name].model_copy(update=update)
    return candidates
