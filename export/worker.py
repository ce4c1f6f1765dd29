"""The part of an export that runs in a child process: whatever may crash, hang or eat memory.

N = evaluation rows, K = outputs of a row.
"""

import os
import re
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from export.checkpoint import load_weights, read_state_dict
from export.measure import latencies_ms
from export.recipe import find_recipe
from export.technique import Job, Technique, Unavailable
from export.techniques import TECHNIQUES
from export.verify import (
    BATCHING_TOLERANCE,
    TOLERANCES,
    compare,
    run_in_batches,
    why_refused,
)
from export.wire import FromPixels
from shipway.artifact.certificate import Candidate
from shipway.runtime.program import Program, open_file
from shipway.runtime.torch_programs import EagerProgram


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a child needs to build the same job as its parent: paths and names, nothing live."""

    recipe: str
    weights: Path
    folder: Path
    """Holds programs/ and the arrays below."""
    threads: int
    log: Path

    @property
    def programs(self) -> Path:
        return self.folder / "programs"

    def array(self, name: str) -> np.ndarray:
        """ "calibration", "evaluation", or "reference": eager's outputs, (N, K)."""
        loaded: np.ndarray = np.load(self.folder / f"{name}.npy")
        return loaded


_assignment: Assignment
_job: Job


def begin(assignment: Assignment) -> None:
    """Once in each child: build the module and keep it."""
    global _assignment, _job
    log = os.open(assignment.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):  # compilers and exporters print; the parent's screen is for people
        os.dup2(log, stream)
    torch.set_num_threads(assignment.threads)
    _assignment = assignment
    recipe, _ = find_recipe(assignment.recipe)
    module = recipe.module()
    load_weights(module, read_state_dict(assignment.weights), assignment.weights)
    rows = 1 if recipe.batch.max == 1 else 2
    _job = Job(
        module=FromPixels(module, recipe.preprocessing).eval(),
        example=assignment.array("evaluation")[:rows],
        calibration=assignment.array("calibration"),
        batch=recipe.batch,
        input=recipe.input,
        programs=assignment.programs,
    )


def reference() -> int:
    """Runs eager on the evaluation inputs and leaves its outputs for all; returns K."""
    eager = EagerProgram(_job.module, threads=_assignment.threads)
    outputs_NK = run_in_batches(eager, _assignment.array("evaluation"), _job.batch.max)
    np.save(_assignment.folder / "reference.npy", outputs_NK)
    return int(outputs_NK.shape[1])


def attempt(name: str) -> Candidate:
    """Builds one candidate, opens it again from disk and compares it with eager."""
    technique = TECHNIQUES[name]
    path = _assignment.programs / technique.file
    start = time.perf_counter()
    try:
        technique.build(_job, path)
        candidate = _verify(technique, path)
    except Exception as error:
        traceback.print_exc()
        candidate = refused(technique, _reason(error))
    if not candidate.passed:
        path.unlink(missing_ok=True)
    return candidate.model_copy(update={"build_seconds": round(time.perf_counter() - start, 1)})


def refused(technique: Technique, reason: str) -> Candidate:
    return Candidate(
        verdict=reason, passed=False, format=technique.format, precision=technique.precision
    )


def measure(
    names: tuple[str, ...], batch_sizes: tuple[int, ...], with_eager: bool
) -> dict[str, dict[int, float]]:
    """Median milliseconds by program and batch size, all measured in turns; eager as "eager"."""
    threads = _assignment.threads
    programs: dict[str, Program] = {}
    if with_eager:
        programs["eager"] = EagerProgram(_job.module, threads=threads)
    for name in names:
        technique = TECHNIQUES[name]
        programs[name] = open_file(
            _assignment.programs / technique.file, technique.format, threads=threads
        )
    return latencies_ms(programs, _assignment.array("evaluation"), batch_sizes)


def _verify(technique: Technique, path: Path) -> Candidate:
    recipe, _ = find_recipe(_assignment.recipe)
    tolerance = recipe.tolerances.get(technique.precision, TOLERANCES[technique.precision])
    evaluation = _assignment.array("evaluation")
    reference_NK = _assignment.array("reference")
    program = open_file(path, technique.format, threads=_assignment.threads)
    sizes = sorted({1, min(2, _job.batch.max), _job.batch.max})
    outputs = {size: run_in_batches(program, evaluation, size) for size in sizes}
    agreement = tuple(compare(reference_NK, outputs[size], size) for size in sizes)
    batching = max(float(np.abs(outputs[size] - outputs[1]).max()) for size in sizes)
    limit = BATCHING_TOLERANCE[technique.precision] * float(np.abs(reference_NK).max())
    reason = why_refused(agreement, tolerance, batching, limit)
    return Candidate(
        verdict=reason or "passed",
        passed=reason is None,
        format=technique.format,
        precision=technique.precision,
        bytes=path.stat().st_size,
        tolerance=tolerance,
        agreement=agreement,
        batching_max_abs_diff=batching,
        operators=_operators(path, evaluation[:1]) if technique.format == "onnx" else {},
    )


def _operators(path: Path, rows: np.ndarray) -> dict[str, int]:
    """Which kernels ONNX Runtime ran in one run, and how often, from its own profile."""
    import json
    from tempfile import TemporaryDirectory

    import onnxruntime as ort

    with TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        options.log_severity_level = 3
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        session.run(None, {session.get_inputs()[0].name: rows})
        events = json.loads(Path(session.end_profiling()).read_text())
    ran = Counter(
        event["args"]["op_name"]
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time")
    )
    return dict(ran.most_common())


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
