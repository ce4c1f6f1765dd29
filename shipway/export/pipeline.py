"""From a recipe and a checkpoint to a sealed artifact: build, verify, measure, choose, seal."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from shipway.artifact.certificate import (
    Candidate,
    Certificate,
    Inputs,
    LayerSensitivity,
    OutputMeasure,
)
from shipway.artifact.errors import AlreadySealed
from shipway.artifact.manifest import Manifest
from shipway.export import worker
from shipway.export.attempts import check_portable, rank_layers, try_techniques
from shipway.export.candidate_cache import (
    cache_key,
    candidate_cache,
    digest_of_rows,
    package_versions,
)
from shipway.export.child_process import Child, child_process
from shipway.export.choice import Objective
from shipway.export.errors import ChildLost
from shipway.export.recipe_data import RecipeData, load_labels, load_recipe_data
from shipway.export.recipe_file import find_recipe
from shipway.export.sealing import describe_program, seal_export
from shipway.export.speed import Outcome, compared_shapes, measure_and_choose
from shipway.export.steps import Steps
from shipway.export.techniques import TECHNIQUES
from shipway.export.verify import measures_of
from shipway.limits import DEFAULT_BUDGET
from shipway.recipe import Inputs as InputSource
from shipway.recipe import Recipe, Rows, TensorSpec, check_name
from shipway.runtime.host import available_cores, describe_host
from shipway.tasks import TASKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A sealed artifact: its path and its records."""

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
    budget: float | None = None,
) -> Exported:
    """Builds, verifies and measures candidates, chooses one, and seals `out`/NAME-VERSION.

    `recipe_name` is a name or a path. `only` names the techniques to try; all of them if empty.
    `budget` is in points, see losses.loss_of; the recipe's if None. Raises UnknownName for a task
    or a technique that is not registered, InvalidRecipe, ExportError or ArtifactError.
    """
    recipe, recipe_file = find_recipe(recipe_name)
    TASKS.get(recipe.task)
    for name in only:
        TECHNIQUES.get(name)
    version = version or recipe.version
    check_name(version, "version")
    if budget is None:
        budget = DEFAULT_BUDGET if recipe.budget is None else recipe.budget
    destination = out / f"{recipe.name}-{version}"
    if destination.exists() and not overwrite:
        raise AlreadySealed(destination, otherwise="replace the old artifact with --overwrite")
    with steps.step("checking the checkpoint and the inputs") as step:
        data = load_recipe_data(recipe, recipe_file, weights)
        step.note(data.checkpoint_note)
    key = cache_key(
        (recipe_file, *data.plugins),
        data.checkpoint_sha256,
        data.rows.values(),
    )
    with candidate_cache(out, recipe.name, key) as folder:
        assignment = worker.Assignment(
            recipe=str(recipe_file),
            weights=data.checkpoint,
            folder=folder,
            threads=available_cores(),
            log=out / f"{destination.name}.log",
        )
        assignment.log.unlink(missing_ok=True)
        for role, rows in data.rows.items():
            assignment.write_rows(role, rows)
        with child_process(assignment) as child:
            with steps.step("running eager PyTorch, the reference"):
                outputs = child.run(worker.reference)
            references = assignment.read_reference()
            labels = load_labels(recipe, references)
            candidates = try_techniques(child, steps, folder, only)
            check_portable(candidates, assignment.log)
            outcome = _choose_proven(
                child,
                steps,
                candidates,
                recipe,
                objective=objective,
                budget=budget,
                assignment=assignment,
            )
            layers = rank_layers(child, steps, outcome.candidates)
        manifest = _manifest(recipe, version, data, outcome, labels, outputs, folder, objective)
        measures = measures_of(references, recipe)
        certificate = _certificate(recipe, data, outcome, layers, measures, budget)
        with steps.step("sealing"):
            seal_export(
                destination,
                manifest,
                certificate,
                data,
                cache=folder,
                references=references,
                overwrite=overwrite,
                budget=budget,
            )
    return Exported(path=destination, manifest=manifest, certificate=certificate)


def _choose_proven(
    child: Child,
    steps: Steps,
    candidates: Mapping[str, Candidate],
    recipe: Recipe,
    *,
    objective: Objective,
    budget: float,
    assignment: worker.Assignment,
) -> Outcome:
    """The choice, whose program and fallback were compared with eager at every batch size."""
    proven: set[str] = set()
    while True:
        outcome = measure_and_choose(
            child,
            steps,
            candidates,
            compared_shapes(recipe.inputs),
            recipe.inputs,
            objective=objective,
            budget=budget,
            cores=assignment.threads,
        )
        check_portable(outcome.candidates, assignment.log)
        served = {outcome.choice.name, fallback_of(outcome.candidates)} - proven
        refused: dict[str, str] = {}
        for name in sorted(served):
            with steps.step(f"comparing {name} with eager at every batch size") as step:
                if reason := _why_wrong_batch(child, name):
                    refused[name] = reason
                step.note("refused" if reason else "passed")
        if not refused:
            return outcome
        proven |= served - refused.keys()
        candidates = dict(candidates) | {
            name: candidates[name].model_copy(update={"passed": False, "verdict": reason})
            for name, reason in refused.items()
        }
        check_portable(candidates, assignment.log)


def _why_wrong_batch(child: Child, name: str) -> str | None:
    try:
        return child.run(worker.check_batches, name)
    except ChildLost as error:
        return error.reason


def fallback_of(candidates: Mapping[str, Candidate]) -> str:
    """The last portable candidate that passed, which runs where the chosen one cannot."""
    return next(
        name
        for name in reversed(list(candidates))
        if candidates[name].passed and TECHNIQUES.get(name).portable
    )


def _manifest(
    recipe: Recipe,
    version: str,
    data: RecipeData,
    outcome: Outcome,
    labels: tuple[str, ...],
    outputs: tuple[TensorSpec, ...],
    cache: Path,
    objective: Objective,
) -> Manifest:
    task = TASKS.get(recipe.task)
    techniques = {
        name: TECHNIQUES.get(name)
        for name, candidate in outcome.candidates.items()
        if candidate.passed
    }
    return Manifest(
        name=recipe.name,
        version=version,
        task=recipe.task,
        plugins=tuple(recipe.plugins),
        inputs=recipe.inputs,
        outputs=outputs,
        preprocessing=recipe.preprocessing,
        labels=labels,
        scores=recipe.scores,
        top_k=min(recipe.top_k, len(labels)) if task.classifies else 1,
        programs={
            name: describe_program(technique, cache / "programs" / technique.file)
            for name, technique in techniques.items()
        },
        chosen=outcome.choice.name,
        chosen_because=outcome.choice.because,
        objective=objective,
        pareto=outcome.choice.pareto,
        fallback=fallback_of(outcome.candidates),
        serving=outcome.serving,
        checkpoint_sha256=data.checkpoint_sha256,
        packages=package_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _certificate(
    recipe: Recipe,
    data: RecipeData,
    outcome: Outcome,
    layers: tuple[LayerSensitivity, ...],
    measures: tuple[OutputMeasure, ...],
    budget: float,
) -> Certificate:
    return Certificate(
        host=describe_host(),
        calibration=_describe_rows(recipe.calibration, data.calibration),
        evaluation=_describe_rows(recipe.evaluation, data.evaluation),
        branches=_describe_rows(recipe.branch_inputs, data.branches)
        if recipe.branch_inputs and data.branches
        else None,
        shapes=compared_shapes(recipe.inputs),
        outputs=measures,
        budget=budget,
        eager=outcome.eager,
        candidates=outcome.candidates,
        sensitivity=layers,
    )


def _describe_rows(source: InputSource, rows: Rows) -> Inputs:
    return Inputs(
        description=source.description,
        rows=len(rows),
        labelled=rows.targets is not None,
        sha256=digest_of_rows(rows),
    )
