"""From a recipe and a checkpoint to a sealed artifact: build, verify, measure, choose, seal."""

import multiprocessing
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from statistics import geometric_mean
from types import TracebackType
from typing import Protocol, Self, TypeVar

import numpy as np
import psutil

from export import worker
from export.checkpoint import load_weights, read_state_dict
from export.errors import BadInputs, ChildLost, NothingPassed
from export.measure import best_batch_size
from export.recipe import Inputs as InputSource
from export.recipe import Recipe, find_recipe
from export.techniques import TECHNIQUES
from shipway.artifact.bundle import CERTIFICATE, MANIFEST, seal, write_record
from shipway.artifact.certificate import Candidate, Certificate, Host, Inputs
from shipway.artifact.digests import sha256_of
from shipway.artifact.errors import AlreadySealed
from shipway.artifact.manifest import Manifest, Program, Serving, TensorSpec
from shipway.runtime.host import available_cores

CANDIDATE_SECONDS = 900
"""After this long a candidate counts as hanging."""
COMPARED_BATCHES = (1, 8)
SERVED_BATCHES = (1, 2, 4, 8, 16, 32)
PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy", "pillow")

T = TypeVar("T")


class Steps(Protocol):
    """Shows what is being done."""

    def step(self, doing: str) -> "Step": ...


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
) -> Exported:
    """Makes, verifies, measures and chooses; seals `out`/NAME-VERSION.

    `only` names the techniques to try; all of them if empty. Raises ExportError or ArtifactError.
    """
    recipe, _ = find_recipe(recipe_name)
    version = version or recipe.version
    destination = out / f"{recipe.name}-{version}"
    if destination.exists() and not overwrite:
        raise AlreadySealed(destination)
    checkpoint = Path(weights or recipe.weights())
    with steps.step("checking the checkpoint and the inputs"):
        load_weights(recipe.module(), read_state_dict(checkpoint), checkpoint)
        calibration = _load_inputs(recipe, recipe.calibration, "calibration")
        evaluation = _load_inputs(recipe, recipe.evaluation, "evaluation")
        _check_held_out(calibration, evaluation)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=f".{destination.name}-") as temporary:
        folder = Path(temporary)
        (folder / "programs").mkdir()
        np.save(folder / "calibration.npy", calibration)
        np.save(folder / "evaluation.npy", evaluation)
        assignment = worker.Assignment(
            recipe=recipe_name,
            weights=checkpoint,
            folder=folder,
            threads=available_cores(),
            log=out / f"{destination.name}.log",
        )
        assignment.log.unlink(missing_ok=True)
        with _child(assignment) as child:
            with steps.step("running eager, the reference"):
                classes = child.run(worker.reference)
            labels = tuple(recipe.labels())
            if len(labels) != classes:
                raise BadInputs(
                    f"The recipe has {len(labels)} labels; the module has {classes} outputs."
                )
            candidates = _attempt_all(child, steps, only)
            passed = tuple(name for name, each in candidates.items() if each.passed)
            if not any(TECHNIQUES[name].portable for name in passed):
                raise NothingPassed(_nothing_passed(candidates, assignment.log))
            with steps.step("measuring the candidates in turns"):
                sizes = tuple(sorted({min(size, recipe.batch.max) for size in COMPARED_BATCHES}))
                latency = child.run(worker.measure, passed, sizes, True)
            chosen = min(passed, key=lambda name: _score(latency[name]))
            with steps.step(f"measuring {chosen} at every batch size"):
                sizes = tuple(size for size in SERVED_BATCHES if size <= recipe.batch.max)
                by_batch = child.run(worker.measure, (chosen,), sizes, False)[chosen]
        candidates = {
            name: each.model_copy(update={"latency_ms": latency.get(name, {})})
            for name, each in candidates.items()
        }
        candidates[chosen] = candidates[chosen].model_copy(
            update={"latency_ms": {**by_batch, **latency[chosen]}}
        )
        certificate = Certificate(
            host=_host(),
            calibration=_describe(recipe.calibration, calibration),
            evaluation=_describe(recipe.evaluation, evaluation),
            threads=assignment.threads,
            eager_latency_ms=latency["eager"],
            candidates=candidates,
        )
        manifest = Manifest(
            name=recipe.name,
            version=version,
            task="image_classification",
            inputs=(recipe.input,),
            outputs=(TensorSpec(name="logits", dtype="float32", shape=(recipe.batch, classes)),),
            preprocessing=recipe.preprocessing,
            labels=labels,
            top_k=min(recipe.top_k, classes),
            programs={name: _describe_program(name, folder) for name in passed},
            chosen=chosen,
            chosen_because=_because(chosen, latency),
            fallback=next(name for name in reversed(passed) if TECHNIQUES[name].portable),
            serving=Serving(
                batch_size=best_batch_size(by_batch),
                max_batch_delay_ms=0,
                workers=1,
                threads=assignment.threads,
            ),
            checkpoint_sha256=sha256_of(checkpoint),
            packages={each: _installed_version(each) for each in PACKAGES},
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        with steps.step("sealing"):
            staging = folder / "artifact"
            staging.mkdir()
            (folder / "programs").rename(staging / "programs")
            write_record(staging / MANIFEST, manifest)
            write_record(staging / CERTIFICATE, certificate)
            if overwrite and destination.exists():
                shutil.rmtree(destination)
            seal(staging, destination)
    return Exported(path=destination, manifest=manifest, certificate=certificate)


class _Child:
    """One worker process, replaced when it dies or hangs."""

    def __init__(self, assignment: worker.Assignment) -> None:
        self._assignment = assignment
        self._pool: ProcessPoolExecutor | None = None

    def run(self, call: Callable[..., T], *arguments: object) -> T:
        """Calls a function of export/worker.py there; raises ChildLost if it crashed or hung."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                1,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=worker.begin,
                initargs=(self._assignment,),
            )
        try:
            return self._pool.submit(call, *arguments).result(CANDIDATE_SECONDS)
        except BrokenProcessPool as error:
            self.end()
            raise ChildLost("its process crashed", self._assignment.log) from error
        except TimeoutError as error:
            self.end()
            raise ChildLost(
                f"it took longer than {CANDIDATE_SECONDS} seconds", self._assignment.log
            ) from error

    def end(self) -> None:
        if self._pool is not None:
            for process in list(self._pool._processes.values()):
                process.kill()  # a child that hangs would not hear anything gentler
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


@contextmanager
def _child(assignment: worker.Assignment) -> Iterator[_Child]:
    child = _Child(assignment)
    try:
        yield child
    finally:
        child.end()


def _attempt_all(child: _Child, steps: Steps, only: tuple[str, ...]) -> dict[str, Candidate]:
    candidates = {}
    for name, technique in TECHNIQUES.items():
        if only and name not in only:
            continue
        with steps.step(f"building and verifying {name}") as step:
            try:
                candidates[name] = child.run(worker.attempt, name)
            except ChildLost as error:
                candidates[name] = worker.refused(technique, error.reason)
            step.note("passed" if candidates[name].passed else "refused")
    return candidates


def _load_inputs(recipe: Recipe, source: InputSource, role: str) -> np.ndarray:
    rows = np.ascontiguousarray(source.load(recipe.preprocessing))
    spec = recipe.input
    wanted = tuple(axis for axis in spec.shape[1:])
    if rows.ndim != len(spec.shape) or rows.shape[1:] != wanted or str(rows.dtype) != spec.dtype:
        raise BadInputs(
            f"The {role} inputs are {rows.dtype} of shape {rows.shape}; "
            f"the recipe's input is {spec.dtype} of shape (rows, {', '.join(map(str, wanted))})."
        )
    if len(rows) < 2:
        raise BadInputs(f"There are {len(rows)} {role} inputs; at least 2 are needed.")
    return rows


def _check_held_out(calibration: np.ndarray, evaluation: np.ndarray) -> None:
    seen = {sha256(row.tobytes()).digest() for row in calibration}
    both = sum(sha256(row.tobytes()).digest() in seen for row in evaluation)
    if both:
        raise BadInputs(
            f"{both} of {len(evaluation)} evaluation inputs are calibration inputs too. "
            "What is measured must be something that calibration did not see."
        )


def _score(latency_ms: dict[int, float]) -> float:
    """Smaller is better: a lone request counts as much as a full batch, each in proportion."""
    return geometric_mean(latency_ms.values())


def _because(chosen: str, latency: dict[str, dict[int, float]]) -> str:
    parts = [
        f"{each:.1f} ms at batch {size}, {latency['eager'][size] / each:.1f} times eager's speed"
        for size, each in latency[chosen].items()
    ]
    return f"the fastest that passed: {'; '.join(parts)}"


def _nothing_passed(candidates: dict[str, Candidate], log: Path) -> str:
    reasons = "\n".join(f"  {name}: {each.verdict}" for name, each in candidates.items())
    return (
        f"No program that runs on every host passed, so nothing was sealed.\n{reasons}\nSee {log}"
    )


def _describe_program(name: str, folder: Path) -> Program:
    technique = TECHNIQUES[name]
    path = folder / "programs" / technique.file
    return Program(
        file=f"programs/{technique.file}",
        format=technique.format,
        precision=technique.precision,
        quantization=technique.quantization,
        requires=technique.requires(),
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
    )


def _describe(source: InputSource, rows: np.ndarray) -> Inputs:
    return Inputs(
        description=source.description, rows=len(rows), sha256=sha256(rows.tobytes()).hexdigest()
    )


def _host() -> Host:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(
            line.partition(":")[2].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        processor = platform.processor() or "unknown"
    return Host(
        processor=processor,
        machine=platform.machine(),
        cores=available_cores(),
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        python=platform.python_version(),
    )


def _installed_version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError

    try:
        return version(package)
    except PackageNotFoundError:
        return version(f"{package}-gpu")
