"""The part of an export that runs in a child process: whatever may crash, hang or eat memory.

N = evaluation rows, K = outputs of a row.
"""

import re
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from shipway.artifact.certificate import Candidate, Kernels, Latency, LayerSensitivity
from shipway.export import kernels
from shipway.export.batches import Arrays, batches, shaped
from shipway.export.checkpoint import load_weights, read_state_dict
from shipway.export.diagnose import Suspect, cause_of, layers_run
from shipway.export.measure import race
from shipway.export.recipe_file import find_recipe
from shipway.export.sensitivity import layer_sensitivity
from shipway.export.served_module import as_served
from shipway.export.techniques import TECHNIQUES
from shipway.export.techniques.base import CONVOLUTIONS, Job, Technique, Unavailable
from shipway.export.verify import (
    BATCHING_TOLERANCE,
    BATCHING_TOLERANCE_DYNAMIC,
    BATCHING_TOLERANCE_LOW,
    TOLERANCES,
    accuracy,
    compare,
    run_in_batches,
    why_mixed,
    why_off,
)
from shipway.recipe import Recipe, Rows, Tolerance
from shipway.runtime.backends import BACKENDS
from shipway.runtime.backends.base import Program, ProgramFile
from shipway.runtime.backends.torch import of_torch
from shipway.runtime.backends.torch_programs import EagerProgram
from shipway.tasks import TASKS

EAGER = "eager"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a child needs to build the same job as its parent: paths and names, nothing live."""

    recipe: str
    weights: Path | None
    folder: Path
    """Holds programs/ and the arrays below."""
    threads: int
    log: Path

    @property
    def programs(self) -> Path:
        return self.folder / "programs"

    @property
    def reference(self) -> Path:
        """Eager's outputs for the evaluation rows, float32 (N, K)."""
        return self.folder / "reference.npy"

    def begin(self) -> None:
        begin(self)

    def write_rows(self, role: str, rows: Rows) -> None:
        """`role` is "calibration" or "evaluation"."""
        for index, array in enumerate(rows.arrays):
            np.save(self.folder / f"{role}-{index}.npy", array)
        if rows.targets is not None:
            np.save(self.folder / f"{role}-targets.npy", rows.targets)

    def read_rows(self, role: str) -> Rows:
        targets = self.folder / f"{role}-targets.npy"
        return Rows(
            tuple(np.load(each) for each in sorted(self.folder.glob(f"{role}-[0-9].npy"))),
            np.load(targets) if targets.exists() else None,
        )


_assignment: Assignment
_recipe: Recipe
_job: Job
_evaluation: Rows


def begin(assignment: Assignment) -> None:
    """Once in each child: build the module and keep it."""
    global _assignment, _recipe, _job, _evaluation
    torch.set_num_threads(assignment.threads)
    _assignment = assignment
    _recipe, _ = find_recipe(assignment.recipe)
    module = _recipe.module()
    if assignment.weights is not None:
        load_weights(module, read_state_dict(assignment.weights), assignment.weights)
    _evaluation = assignment.read_rows("evaluation")
    _job = Job(
        module=as_served(module, _recipe),
        example=next(batches(_evaluation.arrays, _recipe.inputs, min(2, _recipe.batch.max))),
        calibration=assignment.read_rows("calibration"),
        inputs=_recipe.inputs,
        output=TASKS.get(_recipe.task).output,
        programs=assignment.programs,
    )


def reference() -> tuple[int, ...]:
    """Runs eager on the evaluation inputs and leaves its outputs for all; returns a row's shape."""
    outputs_NK = run_in_batches(
        EagerProgram(_job.module, threads=_assignment.threads),
        _evaluation.arrays,
        _job.inputs,
        _recipe.batch.max,
    )
    np.save(_assignment.reference, outputs_NK)
    return outputs_NK.shape[1:]


def attempt(name: str) -> Candidate:
    """Builds one candidate, opens it again from disk and compares it with eager."""
    technique = TECHNIQUES.get(name)
    path = _assignment.programs / technique.file
    start = time.perf_counter()
    try:
        if reason := technique.suits(_job.module):
            raise Unavailable(reason)
        if not technique.runs:
            path.unlink(missing_ok=True)
        technique.build(_job, path)
        candidate = _verify(technique, path)
    except Exception as error:
        traceback.print_exc()
        candidate = refused(technique, _reason(error))
    if not candidate.passed and not technique.runs:
        path.unlink(missing_ok=True)
    return candidate.model_copy(update={"build_seconds": round(time.perf_counter() - start, 1)})


def refused(technique: Technique, reason: str) -> Candidate:
    return Candidate(
        verdict=reason,
        passed=False,
        format=technique.format,
        runtime=technique.runtime,
        precision=technique.precision,
    )


def measure(
    names: Iterable[str], shapes: tuple[str, ...], threads: int, with_eager: bool
) -> dict[str, dict[str, Latency]]:
    """Latencies by shape and program, eager under its own name, all measured in turns."""
    programs: dict[str, Program] = {name: _open(TECHNIQUES.get(name), threads) for name in names}
    if with_eager:
        programs[EAGER] = EagerProgram(_job.module, threads=threads)
    always = (EAGER,) if with_eager else ()
    return {shape: race(programs, _batch_of(shape), always) for shape in shapes}


def sensitivity() -> tuple[LayerSensitivity, ...]:
    """Layer by layer, what static int8 costs; nothing where there is no such program."""
    try:
        return tuple(layer_sensitivity(_job, _evaluation))
    except Unavailable as error:
        print(f"sensitivity: {error}")
    except Exception:  # a ranking for the report is not worth losing the export for
        traceback.print_exc()
    return ()


def _batch_of(shape: str) -> tuple[np.ndarray, ...]:
    rows, _, length = shape.partition("x")
    return shaped(_evaluation.arrays, _job.inputs, int(rows), int(length) if length else None)


def _open(technique: Technique, threads: int) -> Program:
    file = _file(technique, _assignment.programs / technique.file)
    return BACKENDS.get(technique.runtime).open(file, threads=threads)


def _file(technique: Technique, path: Path) -> ProgramFile:
    return ProgramFile(
        path=path,
        format=technique.format,
        precision=technique.precision,
        device=technique.device,
    )


def _verify(technique: Technique, path: Path) -> Candidate:
    tolerance = _recipe.tolerances.get(technique.precision, TOLERANCES[technique.precision])
    arrays, targets = _evaluation.arrays, _evaluation.targets
    reference_NK = np.load(_assignment.reference)
    program = _open(technique, _assignment.threads)
    sizes = sorted({1, min(2, _recipe.batch.max), _recipe.batch.max})
    outputs = {size: run_in_batches(program, arrays, _job.inputs, size) for size in sizes}
    agreement = tuple(
        compare(reference_NK, outputs[size], size, classes=TASKS.get(_recipe.task).classifies)
        for size in sizes
    )
    batching = max(float(np.abs(outputs[size] - outputs[1]).max()) for size in sizes)
    ran = _kernels(technique, path, program)
    reason = why_off(agreement, tolerance)
    if reason is not None and all(np.isfinite(each).all() for each in outputs.values()):
        reason += f": {_cause(technique, program, ran, tolerance)}"
    reason = reason or why_mixed(
        batching, _batching_share(technique) * float(np.abs(reference_NK).max())
    )
    if reason is None and ran is not None:
        reason = kernels.why_not_what_it_claims(ran, technique.precision)
    return Candidate(
        verdict=reason or "passed",
        passed=reason is None,
        format=technique.format,
        runtime=technique.runtime,
        precision=technique.precision,
        bytes=path.stat().st_size,
        tolerance=tolerance,
        agreement=agreement,
        accuracy=None
        if targets is None
        else accuracy(reference_NK, outputs[_recipe.batch.max], targets),
        batching_max_abs_diff=batching,
        kernels=ran,
    )


def _cause(
    technique: Technique, program: Program, ran: Kernels | None, tolerance: Tolerance
) -> str:
    rows = min(8, _recipe.batch.max)
    inputs = next(batches(_evaluation.arrays, _job.inputs, rows))

    def run(given: Arrays) -> np.ndarray:
        return program.run(given)[0]

    # Torch's linear layers are not all in oneDNN's log; its convolutions are.
    log = technique.runtime == "torch" and technique.device == "cpu"
    if log:
        layers_ran = of_torch(lambda: run(inputs)).operators.get("convolution", 0)
    else:
        layers_ran = sum(ran.ran.values()) if ran else 0
    eager = EagerProgram(_job.module, threads=_assignment.threads)
    return cause_of(
        Suspect(
            run=run,
            inputs=inputs,
            reference_NK=np.load(_assignment.reference)[: len(inputs[0])],
            allowed=tolerance.relative_error,
            layers=layers_run(
                _job.module,
                lambda: eager.run(inputs),
                CONVOLUTIONS if log else (*CONVOLUTIONS, torch.nn.Linear),
            ),
            layers_ran=layers_ran,
            precision=technique.precision,
            dynamic=technique.dynamic,
        )
    )


def _batching_share(technique: Technique) -> float:
    if technique.dynamic:
        return BATCHING_TOLERANCE_DYNAMIC
    return BATCHING_TOLERANCE_LOW if technique.precision in ("bf16", "fp16") else BATCHING_TOLERANCE


def _kernels(technique: Technique, path: Path, program: Program) -> Kernels | None:
    """What really ran. None for fp32 on torch, whose products are not all in oneDNN's log."""
    batch = next(batches(_evaluation.arrays, _job.inputs, min(2, _recipe.batch.max)))
    names = [each.name for each in _job.inputs]
    backend = BACKENDS.get(technique.runtime)
    return backend.kernels(_file(technique, path), program, batch, names)


def _reason(error: Exception) -> str:
    """One line that a table can show; the log has the rest."""
    if isinstance(error, Unavailable):
        return f"skipped: {error}"
    cause: BaseException = error
    while cause.__cause__ is not None:  # exporters wrap what went wrong in advice
        cause = cause.__cause__
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(cause))
    first = next((line.strip() for line in plain.splitlines() if line.strip()), "")
    return f"{type(cause).__name__}: {first}"[:300]
