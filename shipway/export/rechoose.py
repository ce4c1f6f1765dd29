"""The choice made again on another host: from a sealed artifact alone, without the checkpoint.

Eager is not at hand here, so programs are held against the outputs of eager that travel with the
artifact as samples, and their speed against each other.
"""

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shipway.artifact.bundle import (
    CERTIFICATE,
    MANIFEST,
    Artifact,
    open_artifact,
    seal,
    write_record,
)
from shipway.artifact.certificate import Candidate, Latency
from shipway.artifact.digests import SUMS
from shipway.artifact.errors import AlreadySealed
from shipway.artifact.samples import file_of, relative_error
from shipway.export.batches import Arrays, shaped
from shipway.export.child_process import child_process
from shipway.export.choice import Objective, choose
from shipway.export.errors import NothingPassed
from shipway.export.measure import race
from shipway.export.pipeline import (
    Exported,
    Steps,
    judge_speed,
    measure_all,
    serving_settings,
    sweep,
)
from shipway.export.report import write_report
from shipway.export.verify import run_in_batches
from shipway.runtime.choice import unsupported_reason
from shipway.runtime.host import available_cores, describe_host
from shipway.runtime.program import open_program


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What the child process needs: an artifact to open for itself."""

    path: Path
    log: Path

    def begin(self) -> None:
        global _artifact, _samples
        _artifact = open_artifact(self.path)
        _samples = read_samples(_artifact)


_artifact: Artifact
_samples: Arrays


def read_samples(artifact: Artifact) -> Arrays:
    """The sample rows of each input, in the manifest's order."""
    return tuple(_read(artifact, spec.name) for spec in artifact.manifest.inputs)


def _read(artifact: Artifact, name: str) -> np.ndarray:
    array: np.ndarray = np.load(artifact.path / file_of(name), allow_pickle=False)
    return array


def recheck(name: str) -> str | None:
    """The reason why a program does not give here what it gave when it was sealed, or None."""
    manifest = _artifact.manifest
    certified = _artifact.certificate.candidates[name]
    program = open_program(_artifact, name, threads=available_cores())
    found = run_in_batches(program, _samples, manifest.inputs, manifest.max_batch)
    error = relative_error(_read(_artifact, manifest.outputs[0].name), found)
    assert certified.tolerance is not None
    if error <= certified.tolerance.relative_error:
        return None
    return (
        f"on this host its outputs are off by {error:.2g} of eager's, "
        f"more than {certified.tolerance.relative_error:.2g}"
    )


def measure(
    names: Iterable[str], shapes: tuple[str, ...], threads: int, with_eager: bool
) -> dict[str, dict[str, Latency]]:
    """Latencies by shape and program, measured in turns. There is no eager to measure."""
    programs = {name: open_program(_artifact, name, threads=threads) for name in names}
    found = {}
    for shape in shapes:
        rows, _, length = shape.partition("x")
        batch = shaped(
            _samples, _artifact.manifest.inputs, int(rows), int(length) if length else None
        )
        found[shape] = race(programs, batch)
    return found


def rechoose(
    path: Path,
    steps: Steps,
    *,
    out: Path,
    version: str | None = None,
    objective: Objective = "latency",
    budget: float = 5.0,
) -> Exported:
    """Checks, measures and chooses again on this host; seals `out`/NAME-VERSION.

    Raises ArtifactError for an artifact that is not whole, AlreadySealed if the destination is
    there, NothingPassed or NothingFitsBudget.
    """
    with steps.step("checking the artifact"):
        artifact = open_artifact(path)
    manifest, certificate = artifact.manifest, artifact.certificate
    version = version or manifest.version
    destination = out / f"{manifest.name}-{version}"
    if destination.exists():
        raise AlreadySealed(destination)
    out.mkdir(parents=True, exist_ok=True)
    candidates = dict(certificate.candidates)
    opened = Opened(path=path.resolve(), log=out / f"{destination.name}.log")
    with child_process(opened) as child:
        for name, program in manifest.programs.items():
            reason = unsupported_reason(program)
            if reason is None:
                with steps.step(f"checking {name} on this host") as step:
                    reason = child.run(recheck, name)
                    step.note("passed" if reason is None else "refused")
            if reason is not None:
                candidates[name] = _refused(candidates[name], reason)
        if not any(each.passed for each in candidates.values()):
            raise NothingPassed(f"No program of {path} runs on this host as it was certified to.")
        shapes = certificate.shapes
        measured = measure_all(child, steps, candidates, shapes, available_cores(), measure)
        candidates = judge_speed(candidates, measured, shapes)
        choice = choose(
            candidates,
            {},
            shapes,
            objective=objective,
            budget=budget,
            cores=available_cores(),
        )
        tokens = shapes[-1].partition("x")[2]
        by_batch, candidates = sweep(
            child, steps, candidates, choice, manifest.inputs, tokens, measure
        )
    certificate = certificate.model_copy(
        update={"host": describe_host(), "eager": {}, "candidates": candidates}
    )
    manifest = manifest.model_copy(
        update={
            "version": version,
            "chosen": choice.name,
            "chosen_because": choice.because,
            "objective": objective,
            "pareto": choice.pareto,
            "serving": serving_settings(choice, by_batch),
        }
    )
    with (
        steps.step("sealing"),
        tempfile.TemporaryDirectory(
            dir=out, prefix=f".{manifest.name}-", suffix=".sealing"
        ) as temporary,
    ):
        staging = Path(temporary) / "artifact"
        shutil.copytree(path, staging)
        (staging / SUMS).unlink()
        write_record(staging / MANIFEST, manifest)
        write_record(staging / CERTIFICATE, certificate)
        write_report(staging, manifest, certificate, budget)
        seal(staging, destination)
    return Exported(path=destination, manifest=manifest, certificate=certificate)


def _refused(candidate: Candidate, reason: str) -> Candidate:
    return candidate.model_copy(update={"passed": False, "verdict": reason})
