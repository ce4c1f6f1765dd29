"""The part of an export that runs in a child process, since it may crash, hang or exhaust memory.

N = evaluation rows, K = outputs of a row.
"""

import shutil
import time
import traceback
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from shipway.artifact.bundle import PLUGINS
from shipway.artifact.certificate import Candidate, Kernels, Latency, LayerSensitivity
from shipway.export import kernels
from shipway.export.checkpoint import load_checkpoint
from shipway.export.clean_process import CleanProcess, OpenedProgram, one_line
from shipway.export.diagnose import Suspect, cause_of, layers_run
from shipway.export.eager_checks import check_eager, telling_the_line
from shipway.export.elsewhere import (
    Elsewhere,
    run_elsewhere,
    why_wrong_batch,
    why_wrong_elsewhere,
)
from shipway.export.errors import ChildLost, ProgramRefused
from shipway.export.handover import Handover
from shipway.export.loaded_code import Provenance, digest_of_module, provenance
from shipway.export.losses import largest_loss
from shipway.export.measure import race
from shipway.export.recipe_file import find_recipe
from shipway.export.served_module import as_served, layer_prefix, unwrapped
from shipway.export.shapes import described_outputs, sizes_of
from shipway.export.techniques import TECHNIQUES
from shipway.export.techniques.base import CONVOLUTIONS, Job, Technique, Unavailable, WrongProgram
from shipway.export.verify import (
    TOLERANCES,
    accuracy,
    batching_change,
    batching_share,
    check_reference,
    compare,
    measures_of,
    run_in_batches,
    why_off,
    why_other_outputs,
)
from shipway.recipe import Recipe, Rows, TensorSpec, Tolerance
from shipway.runtime.backends import BACKENDS
from shipway.runtime.backends.base import Program, ProgramFile
from shipway.runtime.backends.torch_programs import EagerProgram
from shipway.runtime.batches import batches, is_text, served_sizes, shaped

EAGER = "eager"
MOST_SIZES = 64
"""Batch sizes that are checked beside the largest; the rest is taken for the same."""
SKIPPED = "skipped"
"""Begins the verdict on a candidate that cannot be built on this host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment(Handover):
    """What a child process needs to set up the job: paths and names, which can be pickled."""

    recipe: str
    weights: Path | None
    threads: int
    log: Path

    @telling_the_line()
    def begin(self) -> None:
        """Sets up the job in the child process."""
        begin(self)


_assignment: Assignment
_recipe: Recipe
_job: Job
_evaluation: Rows
_clean: CleanProcess
_began: float
"""When the recipe was imported, in seconds since 1970."""
_module_digest: str


def begin(assignment: Assignment) -> None:
    """Builds the module and the job, once in each child process."""
    global _assignment, _recipe, _job, _evaluation, _clean, _began, _module_digest
    _elsewhere.cache_clear()
    torch.set_num_threads(assignment.threads)
    _assignment = assignment
    _began = time.time()
    _recipe, recipe_file = find_recipe(assignment.recipe)
    _clean = CleanProcess(assignment.log, _plugins_alone(recipe_file.parent))
    _clean.start()  # it imports torch while eager runs
    module = _recipe.module()
    if assignment.weights is not None:
        load_checkpoint(module, assignment.weights, _recipe.checkpoint)
    _evaluation = assignment.read_rows("evaluation")
    example = next(batches(_evaluation.arrays, _recipe.inputs, min(2, _recipe.batch.max)))
    served = unwrapped(
        as_served(module, _recipe), _recipe, [torch.from_numpy(array.copy()) for array in example]
    )
    _job = Job(
        module=served.module,
        example=example,
        calibration=assignment.read_rows("calibration"),
        branches=assignment.read_rows("branch") if _recipe.branch_inputs else None,
        inputs=_recipe.inputs,
        outputs=served.outputs,
        programs=assignment.programs,
        layer_prefix=layer_prefix(served.module),
    )
    _module_digest = digest_of_module(served.module)


def _plugins_alone(source: Path) -> list[Path]:
    """Copies of the recipe's plugins, in a folder without the modules beside the recipe."""
    folder = _assignment.folder / PLUGINS
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return [
        Path(shutil.copyfile(source / f"{name}.py", folder / f"{name}.py"))
        for name in _recipe.plugins
    ]


def made_of() -> Provenance:
    """What the programs of this process are made of, as far as it has been loaded by now."""
    return provenance(_module_digest, _began)


@telling_the_line()
def reference() -> tuple[TensorSpec, ...]:
    """Runs eager PyTorch on the evaluation rows, saves its outputs and describes them.

    Raises BadInputs if they cannot be served or tell nothing.
    """
    eager = EagerProgram(_job.module, threads=_assignment.threads)
    check_eager(_job.module, eager.run, _evaluation.arrays, _job.outputs)
    outputs = run_in_batches(eager, _evaluation.arrays, _job.inputs, _recipe.batch.max)
    named = dict(zip(_job.outputs, outputs, strict=True))
    check_reference(named, _recipe)
    _assignment.write_reference(named)
    found = [(_evaluation.arrays, outputs)]
    found += [(place.arrays, tuple(place.outputs.values())) for place in _elsewhere()]
    shapes = [(sizes_of(arrays, _job.inputs), given) for arrays, given in found]
    return described_outputs(_job.outputs, _recipe.batch, _job.inputs, shapes)


def check_batches(name: str) -> str | None:
    """Why a program is wrong at a batch size that it is served with, or None. Raises ChildLost."""
    technique = TECHNIQUES.get(name)
    references = _assignment.read_reference()
    few = BACKENDS.get(technique.runtime).prepares or technique.device == "cuda"
    sizes = served_sizes(_recipe.batch.max, few=few or is_text(_job.inputs))
    try:
        with _open_clean(technique, _assignment.programs / technique.file) as program:
            return why_wrong_batch(
                program,
                sizes[:MOST_SIZES] + sizes[MOST_SIZES:][-1:],
                (_evaluation.arrays, _job.inputs),
                measures_of(references, _recipe),
                references,
                batching_share(technique.precision, dynamic=technique.dynamic),
            )
    except ProgramRefused as error:
        return str(error)


def _tolerance(technique: Technique) -> Tolerance:
    return _recipe.tolerances.get(technique.precision, TOLERANCES[technique.precision])


@cache
def _elsewhere() -> list[Elsewhere]:
    """What eager returns at other shapes and for the branch rows, once in each child process."""
    eager = EagerProgram(_job.module, threads=_assignment.threads)
    given = (_evaluation.arrays, _job.inputs, _job.outputs, _job.branches)
    return list(run_elsewhere(eager, *given))


def attempt(name: str) -> Candidate:
    """Builds one candidate, opens it from disk in the clean process and compares it with eager.

    Raises ChildLost if it crashed that process or hung there.
    """
    technique = TECHNIQUES.get(name)
    path = _assignment.programs / technique.file
    start = time.perf_counter()
    try:
        if reason := technique.unsupported_reason(_job.module):
            raise Unavailable(reason)
        if not technique.runs:
            path.unlink(missing_ok=True)
        technique.build(_job, path)
        candidate = _verify(technique, path)
    except ChildLost:
        _discard(technique, path)
        raise
    except Exception as error:
        traceback.print_exc()
        candidate = refused(technique, _reason(error))
    if not candidate.passed:
        _discard(technique, path)
    return candidate.model_copy(update={"build_seconds": round(time.perf_counter() - start, 1)})


def verify_again(name: str) -> Candidate:
    """Compares a candidate that an earlier run built with what eager gives in this run.

    Raises ChildLost as `attempt` does.
    """
    technique = TECHNIQUES.get(name)
    try:
        return _verify(technique, _assignment.programs / technique.file)
    except ChildLost:
        raise
    except Exception as error:
        traceback.print_exc()
        return refused(technique, _reason(error))


def _discard(technique: Technique, path: Path) -> None:
    """Removes what was built, unless it is another technique's program."""
    if not technique.runs:
        path.unlink(missing_ok=True)


def refused(technique: Technique, reason: str) -> Candidate:
    """A candidate that could not be built, or not be opened."""
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
    """Latencies by shape and program, measured in turns; eager's under the name EAGER."""
    programs: dict[str, Program] = {name: _open(TECHNIQUES.get(name), threads) for name in names}
    if with_eager:
        programs[EAGER] = EagerProgram(_job.module, threads=threads)
    reference = EAGER if with_eager else None
    return {shape: race(programs, _batch_of(shape), reference, threads=threads) for shape in shapes}


def rank_layers(name: str) -> tuple[LayerSensitivity, ...]:
    """What quantizing each layer costs, by the technique's own ranking; empty if that fails."""
    ranking = TECHNIQUES.get(name).layer_ranking
    assert ranking is not None
    try:
        return tuple(ranking.rank(_job, _evaluation))
    except Unavailable as error:
        print(f"ranking of layers: {error}")
    except Exception:  # the export is worth more than a section of its report
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
    tolerance = _tolerance(technique)
    references = _assignment.read_reference()
    measures = measures_of(references, _recipe)
    with ExitStack() as stack:
        try:
            program = stack.enter_context(_open_clean(technique, path))
            outputs = _run_all(program)
        except ProgramRefused as error:
            raise _explained(error, technique) from None
        for size, found in outputs.items():
            if reason := why_other_outputs(references, found):
                return refused(technique, f"at batch {size} {reason}")
        agreement = tuple(
            compare(reference, output, size, measure)
            for size, found in outputs.items()
            for reference, output, measure in zip(references.values(), found, measures, strict=True)
        )
        batching, mixed = batching_change(
            references,
            list(outputs.values()),
            measures,
            batching_share(technique.precision, dynamic=technique.dynamic),
        )
        ran = _kernels(program)
        reason = why_off(agreement, measures, tolerance)
        if reason is not None and all(each.max_abs_diff < np.inf for each in agreement):
            reason += f": {_cause(technique, program, ran, tolerance)}"
        reason = reason or mixed
        reason = reason or why_wrong_elsewhere(
            program, _elsewhere(), measures, references, tolerance
        )
    if reason is None and ran is not None:
        reason = kernels.why_not_what_it_claims(ran, technique.precision)
    targets, largest = _evaluation.targets, outputs[_recipe.batch.max]
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
        else accuracy(next(iter(references.values())), largest[0], targets),
        loss=largest_loss(references, largest, measures, targets, _evaluation.groups),
        batching_max_abs_diff=batching,
        kernels=ran,
    )


def _open_clean(technique: Technique, path: Path) -> OpenedProgram:
    file = _file(technique, path.absolute())
    return _clean.open(technique.runtime, file, threads=_assignment.threads)


def _run_all(program: Program) -> dict[int, tuple[np.ndarray, ...]]:
    """The outputs for all evaluation rows by batch size, the smallest first."""
    sizes = sorted({1, min(2, _recipe.batch.max), _recipe.batch.max})
    return {size: run_in_batches(program, _evaluation.arrays, _job.inputs, size) for size in sizes}


def _explained(error: ProgramRefused, technique: Technique) -> ProgramRefused:
    """The error, and what is behind it if the program runs where the recipe is imported."""
    try:
        _run_all(_open(technique, _assignment.threads))
    except Exception:
        return error
    return ProgramRefused(
        f"a worker cannot open it, because it needs something that only the recipe imports: {error}"
    )


def _cause(
    technique: Technique, program: OpenedProgram, ran: Kernels | None, tolerance: Tolerance
) -> str:
    rows = min(8, _recipe.batch.max)
    inputs = next(batches(_evaluation.arrays, _job.inputs, rows))
    # oneDNN's log has all convolutions of torch, but not all linear layers.
    log = technique.runtime == "torch" and technique.device == "cpu"
    if log:
        ran_layers = program.onednn_kernels(inputs).operators.get("convolution", 0)
    else:
        ran_layers = 0 if ran is None else sum(ran.ran.values())
    eager = EagerProgram(_job.module, threads=_assignment.threads)
    kinds = CONVOLUTIONS if log else (*CONVOLUTIONS, torch.nn.Linear)
    return cause_of(
        Suspect(
            run=lambda given: program.run(given)[0],
            inputs=inputs,
            reference=next(iter(_assignment.read_reference().values()))[: len(inputs[0])],
            allowed=tolerance.relative_error,
            layers=layers_run(_job.module, lambda: eager.run(inputs), kinds),
            layers_ran=ran_layers if log or ran is not None else None,
        )
    )


def _kernels(program: OpenedProgram) -> Kernels | None:
    """The kernels that ran; None for fp32 on torch, whose products are not all in oneDNN's log."""
    batch = next(batches(_evaluation.arrays, _job.inputs, min(2, _recipe.batch.max)))
    return program.kernels(batch, [spec.name for spec in _job.inputs])


def _reason(error: Exception) -> str:
    """The error in one line, for a table; the log has the traceback."""
    if isinstance(error, Unavailable):
        return f"{SKIPPED}: {error}"
    return str(error) if isinstance(error, ProgramRefused | WrongProgram) else one_line(error)
