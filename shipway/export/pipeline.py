"""From a recipe and a checkpoint to a sealed artifact: build, verify, measure, choose, seal."""

import shutil
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

import numpy as np
from torch import nn

from shipway.artifact import samples
from shipway.artifact.bundle import CERTIFICATE, MANIFEST, PLUGINS, seal, write_record
from shipway.artifact.certificate import (
    Candidate,
    Certificate,
    Inputs,
    Latency,
    LayerSensitivity,
)
from shipway.artifact.digests import sha256_of
from shipway.artifact.errors import AlreadySealed
from shipway.artifact.manifest import Manifest, Program, Serving
from shipway.errors import ShipwayError
from shipway.export import worker
from shipway.export.batches import is_text
from shipway.export.candidate_cache import (
    digest_of_rows,
    key_of,
    package_versions,
    recall,
    remember,
    workshop,
)
from shipway.export.checkpoint import load_weights, read_state_dict
from shipway.export.child_process import Child, child_process
from shipway.export.choice import (
    Choice,
    Objective,
    choose,
    rows_of,
    slower_than_fp32,
)
from shipway.export.errors import BadInputs, ChildLost, NothingPassed
from shipway.export.measure import best_batch_size
from shipway.export.recipe_file import find_recipe
from shipway.export.report import write_report
from shipway.export.techniques import TECHNIQUES, in_order
from shipway.recipe import Axis, Recipe, Rows, TensorSpec, check_name
from shipway.recipe import Inputs as InputSource
from shipway.runtime.host import available_cores, describe_host
from shipway.tasks import TASKS

COMPARED_BATCHES = (1, 8)
COMPARED_LENGTHS = (16, 128)
"""For texts: tokens of the lone short one and of the batch of long ones."""
SERVED_BATCHES = (1, 2, 4, 8, 16, 32)
SERVED_LENGTHS = (16, 64)
"""For texts, in tokens, beside the length at which programs are compared."""
CLOSE_ENOUGH_FOR_OTHER_THREADS = 2.0
"""Programs within this of the fastest are measured at other numbers of threads too."""
STATIC_INT8 = ("onnx_int8", "onnx_int8_average", "onnx_int8_mixed")
"""The programs whose layers the report ranks by what quantizing them costs."""
SAMPLE_ROWS = 8
"""Evaluation rows, with eager's outputs, that travel with the artifact."""

T = TypeVar("T")

Measured = dict[str, dict[str, dict[int, Latency]]]
"""Latencies by program, shape and threads."""
Measure = Callable[[list[str], tuple[str, ...], int, bool], dict[str, dict[str, Latency]]]
"""Runs in the child: programs, shapes, threads, whether eager too; latencies by shape, program."""


class Step(Protocol):
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def note(self, outcome: str) -> None:
        """What became of it, in a word or two."""
        ...


class Steps(Protocol):
    """Shows what is being done."""

    def step(self, doing: str) -> Step: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A finished export: where it is and what to say of it."""

    path: Path
    manifest: Manifest
    certificate: Certificate


def export(
    recipe_name: str,
    steps: Steps,
    *,
    weights: Path | None = None,
    out: Path = Path("artifacts"),
    version: str | None = None,
    overwrite: bool = False,
    only: tuple[str, ...] = (),
    objective: Objective = "latency",
    budget: float = 5.0,
) -> Exported:
    """Makes, verifies, measures and chooses; seals `out`/NAME-VERSION.

    `only` names the techniques to try; all of them if empty. `budget` is in points, see
    choose.points_lost. Raises ExportError or ArtifactError.
    """
    recipe, recipe_file = find_recipe(recipe_name)
    version = version or recipe.version
    check_name(version, "version")
    destination = out / f"{recipe.name}-{version}"
    if destination.exists() and not overwrite:
        raise AlreadySealed(destination)
    with steps.step("checking the checkpoint and the inputs"):
        checkpoint, checkpoint_sha256 = _check_weights(recipe, weights)
        calibration = _load_rows(recipe, recipe.calibration, "calibration")
        evaluation = _load_rows(recipe, recipe.evaluation, "evaluation")
        _check_held_out(calibration, evaluation)
        files = _check_files(recipe)
    plugins = [recipe_file.parent / f"{name}.py" for name in recipe.plugins]
    key = key_of((recipe_file, *plugins), checkpoint_sha256, calibration, evaluation)
    with workshop(out, recipe.name, key) as folder:
        assignment = worker.Assignment(
            recipe=recipe_name,
            weights=checkpoint,
            folder=folder,
            threads=available_cores(),
            log=out / f"{destination.name}.log",
        )
        assignment.log.unlink(missing_ok=True)
        assignment.write_rows("calibration", calibration)
        assignment.write_rows("evaluation", evaluation)
        with child_process(assignment) as child:
            with steps.step("running eager, the reference"):
                outputs = child.run(worker.reference)
            labels = _check_labels(recipe, outputs)
            candidates = _attempt_all(child, steps, folder, only)
            if not any(
                each.passed and TECHNIQUES.get(name).portable for name, each in candidates.items()
            ):
                raise NothingPassed(_nothing_passed(candidates, assignment.log))
            shapes = compared_shapes(recipe)
            measured = measure_all(child, steps, candidates, shapes, assignment.threads)
            candidates = judge_speed(candidates, measured, shapes)
            choice = choose(
                candidates,
                measured[worker.EAGER],
                shapes,
                objective=objective,
                budget=budget,
                cores=assignment.threads,
            )
            tokens = shapes[-1].partition("x")[2]
            by_batch, candidates = sweep(child, steps, candidates, choice, recipe.inputs, tokens)
            layers: tuple[LayerSensitivity, ...] = ()
            if any(name in candidates for name in STATIC_INT8):
                with steps.step("finding the layers that int8 costs most in") as step:
                    try:
                        layers = child.run(worker.sensitivity)
                    except ChildLost:
                        step.note("given up")
        certificate = Certificate(
            host=describe_host(),
            calibration=_describe(recipe.calibration, calibration),
            evaluation=_describe(recipe.evaluation, evaluation),
            shapes=shapes,
            eager=measured[worker.EAGER],
            candidates=candidates,
            sensitivity=layers,
        )
        programs = {
            name: _describe_program(name, assignment.programs)
            for name, each in candidates.items()
            if each.passed
        }
        manifest = Manifest(
            name=recipe.name,
            version=version,
            task=recipe.task,
            plugins=recipe.plugins,
            inputs=recipe.inputs,
            outputs=(
                TensorSpec(
                    name=TASKS.get(recipe.task).output,
                    dtype="float32",
                    shape=(recipe.batch, *outputs),
                ),
            ),
            preprocessing=recipe.preprocessing,
            labels=labels,
            top_k=min(recipe.top_k, outputs[0]) if TASKS.get(recipe.task).classifies else 1,
            programs=programs,
            chosen=choice.name,
            chosen_because=choice.because,
            objective=objective,
            pareto=choice.pareto,
            fallback=next(name for name in reversed(programs) if TECHNIQUES.get(name).portable),
            serving=serving_settings(choice, by_batch),
            checkpoint_sha256=checkpoint_sha256,
            packages=package_versions(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        with steps.step("sealing"):
            _seal(assignment, manifest, certificate, files, plugins, destination, overwrite, budget)
    return Exported(path=destination, manifest=manifest, certificate=certificate)


def compared_shapes(recipe: Recipe) -> tuple[str, ...]:
    """A lone row and a batch; for texts a short one and a batch of long ones."""
    sizes = [min(size, recipe.batch.max) for size in COMPARED_BATCHES]
    length = recipe.inputs[0].shape[1] if is_text(recipe.inputs) else None
    if isinstance(length, Axis):
        lengths = [min(each, length.max) for each in COMPARED_LENGTHS]
        return tuple(f"{size}x{tokens}" for size, tokens in zip(sizes, lengths, strict=True))
    return tuple(dict.fromkeys(map(str, sizes)))


def _attempt_all(
    child: Child, steps: Steps, folder: Path, only: tuple[str, ...]
) -> dict[str, Candidate]:
    candidates: dict[str, Candidate] = {}
    for name, technique in in_order().items():
        if only and name not in only:
            continue
        if known := recall(folder, name, folder / "programs" / technique.file):
            candidates[name] = known
            continue
        with steps.step(f"building and verifying {name}") as step:
            try:
                candidates[name] = child.run(worker.attempt, name)
            except ChildLost as error:
                candidates[name] = worker.refused(technique, error.reason)
            else:
                remember(folder, name, candidates[name])
            step.note(_verdict_in_a_word(candidates[name]))
    return candidates


def _verdict_in_a_word(candidate: Candidate) -> str:
    if candidate.passed:
        return "passed"
    return "skipped" if candidate.verdict.startswith("skipped") else "refused"


def measure_all(
    child: Child,
    steps: Steps,
    candidates: Mapping[str, Candidate],
    shapes: tuple[str, ...],
    cores: int,
    measure: Measure = worker.measure,
) -> Measured:
    """All that passed on all cores; then those that are nearly the fastest on one core."""
    measured: Measured = {}

    def take(found: dict[str, dict[str, Latency]], threads: int) -> None:
        for shape, by_name in found.items():
            for name, latency in by_name.items():
                measured.setdefault(name, {}).setdefault(shape, {})[threads] = latency

    passed = [name for name, each in candidates.items() if each.passed]
    with steps.step(f"measuring {_count(passed)} in turns"):
        take(child.run(measure, passed, shapes, cores, True), cores)
    if cores > 1:
        fastest = min(_mean_ms(measured[name], cores) for name in passed)
        close = [
            name
            for name in passed
            if _mean_ms(measured[name], cores) <= fastest * CLOSE_ENOUGH_FOR_OTHER_THREADS
        ]
        with steps.step(f"measuring the {len(close)} fastest on one thread"):
            take(child.run(measure, close, shapes, 1, False), 1)
    return measured


def _count(names: list[str]) -> str:
    return f"{len(names)} candidate{'s' if len(names) != 1 else ''}"


def _mean_ms(by_shape: Mapping[str, Mapping[int, Latency]], threads: int) -> float:
    return float(np.exp(np.mean([np.log(each[threads].median_ms) for each in by_shape.values()])))


def judge_speed(
    candidates: Mapping[str, Candidate], measured: Measured, shapes: tuple[str, ...]
) -> dict[str, Candidate]:
    timed = {
        name: each.model_copy(update={"latency": measured.get(name, {})})
        for name, each in candidates.items()
    }
    judged = {}
    for name, each in timed.items():
        reason = slower_than_fp32(timed, name, shapes) if each.passed else None
        judged[name] = (
            each.model_copy(update={"passed": False, "verdict": reason}) if reason else each
        )
    return judged


def serving_settings(choice: Choice, by_batch: Mapping[int, float]) -> Serving:
    """What suits a program that takes so many milliseconds by batch size."""
    batch_size = best_batch_size(by_batch)
    return Serving(
        batch_size=batch_size,
        # TorchServe takes what has queued up only while the delay lasts: with 0, two at most.
        max_batch_delay_ms=1 if batch_size > 2 else 0,
        workers=choice.workers,
        threads=choice.threads,
    )


def sweep(
    child: Child,
    steps: Steps,
    candidates: Mapping[str, Candidate],
    choice: Choice,
    inputs: tuple[TensorSpec, ...],
    tokens: str,
    measure: Measure = worker.measure,
) -> tuple[dict[int, float], dict[str, Candidate]]:
    """The chosen program at every shape that serving plans with, kept in its certificate too.

    Returns milliseconds by batch size, of texts at `tokens`, and the candidates.
    """
    rows = inputs[0].shape[0]
    assert isinstance(rows, Axis)
    sizes = sorted({*(size for size in SERVED_BATCHES if size <= rows.max), rows.max})
    longest = inputs[0].shape[1] if is_text(inputs) else None
    if isinstance(longest, Axis):
        lengths = sorted({min(each, longest.max) for each in (*SERVED_LENGTHS, int(tokens))})
        shapes = tuple(f"{size}x{length}" for length in lengths for size in sizes)
    else:
        shapes = tuple(map(str, sizes))
    with steps.step(f"measuring {choice.name} at every batch size"):
        found = child.run(measure, (choice.name,), shapes, choice.threads, False)
    winner = candidates[choice.name]
    latency = {shape: dict(each) for shape, each in winner.latency.items()}
    for shape, by_name in found.items():
        latency.setdefault(shape, {}).setdefault(choice.threads, by_name[choice.name])
    by_batch = {
        rows_of(shape): by_name[choice.name].median_ms
        for shape, by_name in found.items()
        if shape.partition("x")[2] == tokens
    }
    return by_batch, dict(candidates) | {
        choice.name: winner.model_copy(update={"latency": latency}),
    }


def _seal(
    assignment: worker.Assignment,
    manifest: Manifest,
    certificate: Certificate,
    files: Mapping[str, Path],
    plugins: Sequence[Path],
    destination: Path,
    overwrite: bool,
    budget: float,
) -> None:
    out = destination.parent
    with tempfile.TemporaryDirectory(
        dir=out, prefix=f".{manifest.name}-", suffix=".sealing"
    ) as temporary:
        staging = Path(temporary) / "artifact"
        for name in ("programs", samples.FOLDER, *(["files"] if files else [])):
            (staging / name).mkdir(parents=True)
        for file in {program.file for program in manifest.programs.values()}:
            # Copied, not linked: the workshop's may be written again, the artifact's never.
            shutil.copyfile(assignment.folder / file, staging / file)
        for name, path in files.items():
            shutil.copyfile(path, staging / "files" / name)
        for path in plugins:
            (staging / PLUGINS).mkdir(exist_ok=True)
            shutil.copyfile(path, staging / PLUGINS / path.name)
        evaluation = assignment.read_rows("evaluation")
        for spec, array in zip(manifest.inputs, evaluation.arrays, strict=True):
            np.save(staging / samples.file_of(spec.name), array[:SAMPLE_ROWS])
        reference = np.load(assignment.reference)[:SAMPLE_ROWS]
        np.save(staging / samples.file_of(manifest.outputs[0].name), reference)
        write_record(staging / MANIFEST, manifest)
        write_record(staging / CERTIFICATE, certificate)
        write_report(staging, manifest, certificate, budget)
        if overwrite and destination.exists():
            destination.rename(Path(temporary) / "replaced")
        seal(staging, destination)


def _check_weights(recipe: Recipe, given: Path | None) -> tuple[Path | None, str]:
    """The checkpoint, None for random weights, and its digest; raises if it does not fit."""
    module = _users("module", recipe.module)
    found = given or _users("weights", recipe.weights)
    if found is None:
        return None, _digest_of_weights(module)
    path = Path(found)
    load_weights(module, read_state_dict(path), path)
    return path, sha256_of(path)


def _digest_of_weights(module: nn.Module) -> str:
    digest = sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _users(part: str, call: Callable[[], T]) -> T:
    """The result of a part of the recipe; what it raises becomes an error that names the line."""
    try:
        return call()
    except ShipwayError:
        raise
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        raise BadInputs(
            f"The recipe's {part} could not be had: {type(error).__name__}: {error} "
            f"({at.filename}, line {at.lineno})"
        ) from error


def _check_files(recipe: Recipe) -> Mapping[str, Path]:
    files = _users("files", recipe.files)
    for name, path in files.items():
        if not Path(path).is_file():
            raise BadInputs(f"The recipe's file {name!r} should be at {path}, and is not there.")
    return files


def _check_labels(recipe: Recipe, outputs: tuple[int, ...]) -> tuple[str, ...]:
    labels = _users("labels", lambda: tuple(recipe.labels()))
    if TASKS.get(recipe.task).classifies and (len(labels),) != outputs:
        outputs_in_words = " × ".join(map(str, outputs))
        raise BadInputs(
            f"The recipe has {len(labels)} labels; the module has {outputs_in_words} outputs."
        )
    return labels


def _load_rows(recipe: Recipe, source: InputSource, role: str) -> Rows:
    rows = _users(f"{role} inputs", lambda: source.load(recipe))
    if not isinstance(rows, Rows) or len(rows.arrays) != len(recipe.inputs):
        raise BadInputs(
            f"The {role} inputs must be Rows with {len(recipe.inputs)} arrays, one for each of "
            f"{', '.join(spec.name for spec in recipe.inputs)}."
        )
    for array, spec in zip(rows.arrays, recipe.inputs, strict=True):
        _check_array(array, spec, f"{role} input {spec.name}")
    if len({len(array) for array in rows.arrays}) != 1:
        raise BadInputs(f"The {role} inputs differ in their number of rows.")
    if len(rows) < 2:
        raise BadInputs(f"There are {len(rows)} rows of {role} inputs; at least 2 are needed.")
    if rows.targets is not None and rows.targets.shape != (len(rows),):
        raise BadInputs(f"There are {rows.targets.shape} {role} targets for {len(rows)} rows.")
    return Rows(tuple(np.ascontiguousarray(array) for array in rows.arrays), rows.targets)


def _check_array(array: np.ndarray, spec: TensorSpec, what: str) -> None:
    fits = array.ndim == len(spec.shape) and all(
        axis.min <= length <= axis.max if isinstance(axis, Axis) else length == axis
        for length, axis in zip(array.shape[1:], spec.shape[1:], strict=False)
    )
    if not fits or str(array.dtype) != spec.dtype:
        wanted = ", ".join(
            f"{axis.min} to {axis.max}" if isinstance(axis, Axis) else str(axis)
            for axis in spec.shape[1:]
        )
        raise BadInputs(
            f"The {what} is {array.dtype} of shape {array.shape}; "
            f"the recipe says {spec.dtype} of shape (rows, {wanted})."
        )
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise BadInputs(f"The {what} holds NaN or infinity, first in row {row}.")


def _check_held_out(calibration: Rows, evaluation: Rows) -> None:
    def digests(rows: Rows) -> list[bytes]:
        return [
            sha256(b"".join(array[row].tobytes() for array in rows.arrays)).digest()
            for row in range(len(rows))
        ]

    seen = set(digests(calibration))
    both = sum(digest in seen for digest in digests(evaluation))
    if both:
        raise BadInputs(
            f"{both} of {len(evaluation)} evaluation inputs are calibration inputs too. "
            "What is measured must be something that calibration did not see."
        )


def _nothing_passed(candidates: Mapping[str, Candidate], log: Path) -> str:
    reasons = "\n".join(f"  {name}: {each.verdict}" for name, each in candidates.items())
    return (
        f"No program that runs on every host passed, so nothing was sealed.\n{reasons}\nSee {log}"
    )


def _describe_program(name: str, programs: Path) -> Program:
    technique = TECHNIQUES.get(name)
    path = programs / technique.file
    return Program(
        file=f"programs/{technique.file}",
        format=technique.format,
        runtime=technique.runtime,
        precision=technique.precision,
        quantization=technique.quantization,
        device=technique.device,
        requires=technique.requires(),
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
    )


def _describe(source: InputSource, rows: Rows) -> Inputs:
    return Inputs(
        description=source.description,
        rows=len(rows),
        labelled=rows.targets is not None,
        sha256=digest_of_rows(rows),
    )
