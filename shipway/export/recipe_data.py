"""Loads what a recipe names (weights, inputs, labels, files) and checks that it fits together.

Everything is checked before the first candidate is built. What the recipe's own functions raise
becomes a BadInputs that names the line.
"""

import os
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import numpy as np
from torch import nn

from shipway.errors import ShipwayError
from shipway.export.checkpoint import load_checkpoint
from shipway.export.checkpoint_files import digest_of
from shipway.export.errors import BadInputs
from shipway.export.loaded_code import content_of
from shipway.export.task_outputs import check_outputs
from shipway.recipe import Axis, Inputs, Recipe, Rows, TensorSpec

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeData:
    """The files and rows that a recipe names, checked."""

    checkpoint: Path | None
    """None for random weights."""
    checkpoint_sha256: str
    """Of the file or files; for random weights, of the names and values of all tensors."""
    checkpoint_note: str
    """What had to be done for it to fit; empty if nothing."""
    calibration: Rows
    evaluation: Rows
    branches: Rows | None
    """Rows of `branch_inputs`."""
    files: Mapping[str, Path]
    """By their names in the artifact's folder files/."""
    plugins: tuple[Path, ...]

    @property
    def rows(self) -> dict[str, Rows]:
        """All rows, by what they are for."""
        found = {"calibration": self.calibration, "evaluation": self.evaluation}
        return found if self.branches is None else found | {"branch": self.branches}


def load_recipe_data(recipe: Recipe, recipe_file: Path, weights: Path | None = None) -> RecipeData:
    """Loads and checks everything; `weights` replaces the recipe's own checkpoint.

    Raises BadInputs, UnreadableCheckpoint or CheckpointDoesNotFit.
    """
    checkpoint, checkpoint_sha256, note = _check_weights(recipe, weights)
    calibration = _load_rows(recipe, recipe.calibration, "calibration")
    evaluation = _load_rows(recipe, recipe.evaluation, "evaluation")
    _check_held_out(calibration, evaluation)
    branches = _load_rows(recipe, recipe.branch_inputs, "branch") if recipe.branch_inputs else None
    return RecipeData(
        checkpoint=checkpoint,
        checkpoint_sha256=checkpoint_sha256,
        checkpoint_note=note,
        calibration=calibration,
        evaluation=evaluation,
        branches=branches,
        files=_check_files(recipe),
        plugins=tuple(recipe_file.parent / f"{name}.py" for name in recipe.plugins),
    )


def load_labels(recipe: Recipe, outputs: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """The recipe's labels. Raises BadInputs if the outputs do not fit the task.

    `outputs` are eager's for the evaluation rows, by name, each (N, …).
    """
    labels = _call("labels", lambda: tuple(recipe.labels()))
    for each in labels:
        if not isinstance(each, str):
            raise BadInputs(
                f"The recipe's labels contain {each!r}, of type {type(each).__name__}. Return a "
                "text for each class."
            )
    check_outputs(recipe, labels, outputs)
    return labels


def _check_weights(recipe: Recipe, given: Path | None) -> tuple[Path | None, str, str]:
    """The checkpoint, None for random weights, its digest, and what had to be done for it to fit;
    raises if it does not."""
    module = _call("module", recipe.module)
    if not isinstance(module, nn.Module):
        raise _wrong("module", module, "a torch.nn.Module, without its weights")
    source = given or _call("weights", recipe.weights)
    if source is None:
        return None, _digest_of_weights(module), ""
    if not isinstance(source, str | os.PathLike):
        raise _wrong("weights", source, "the path of the checkpoint, or None for random weights")
    path = Path(source)
    note = load_checkpoint(module, path, recipe.checkpoint)
    return path, digest_of(path), note


def _digest_of_weights(module: nn.Module) -> str:
    digest = sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(content_of(tensor))
    return digest.hexdigest()


def _call(part: str, function: Callable[[], T]) -> T:
    """What a function of the recipe returns; what it raises becomes a BadInputs with the line."""
    try:
        return function()
    except ShipwayError:
        raise
    except Exception as error:
        raise BadInputs(
            f"The recipe's {part} raised {type(error).__name__}: {error}{_place_of(error)}"
        ) from error


def _place_of(error: Exception) -> str:
    """The line that raised it; empty if that is the call itself, of what cannot be called so."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    return "" if at.filename == __file__ else f" ({at.filename}, line {at.lineno})"


def _wrong(part: str, returned: object, right: str) -> BadInputs:
    return BadInputs(
        f"The recipe's {part} returned an object of type {type(returned).__name__}. Return {right}."
    )


def _check_files(recipe: Recipe) -> Mapping[str, Path]:
    files = _call("files", recipe.files)
    if not isinstance(files, Mapping):
        raise _wrong("files", files, "a dict of paths by their names in the artifact")
    for name, path in files.items():
        if not Path(path).is_file():
            raise BadInputs(
                f"The recipe's file {name!r} does not exist: {path}. Correct `files` in the recipe."
            )
    return files


def _load_rows(recipe: Recipe, source: Inputs, role: str) -> Rows:
    rows = _call(f"{role} inputs", partial(source.load, recipe))
    if not isinstance(rows, Rows):
        raise _wrong(f"{role} inputs", rows, "Rows, from the function `load`")
    if isinstance(rows.arrays, np.ndarray) or len(rows.arrays) != len(recipe.inputs):
        raise BadInputs(
            f"The {role} inputs must be Rows((…,)) with {len(recipe.inputs)} arrays, one for each "
            f"of {', '.join(spec.name for spec in recipe.inputs)}."
        )
    names = [*(spec.name for spec in recipe.inputs), "targets", "groups"]
    for name, array in zip(names, (*rows.arrays, rows.targets, rows.groups), strict=True):
        if not isinstance(array, np.ndarray | None):
            raise BadInputs(
                f"The {role} inputs' {name} are an object of type {type(array).__name__}. Give "
                "NumPy arrays: `tensor.numpy()` of a tensor, `np.array(list)` of a list."
            )
    for array, spec in zip(rows.arrays, recipe.inputs, strict=True):
        _check_array(array, spec, f"{role} input {spec.name}")
    if len({len(array) for array in rows.arrays}) != 1:
        raise BadInputs(
            f"The arrays of the {role} inputs have different numbers of rows. Give "
            "the same number in each array."
        )
    if len(rows) < (least := 1 if role == "branch" else 2):
        raise BadInputs(f"The {role} inputs have {len(rows)} rows. Give at least {least}.")
    if rows.targets is not None and rows.targets.shape != (len(rows),):
        raise BadInputs(
            f"The {role} targets have shape {rows.targets.shape}; expected ({len(rows)},), one for "
            "each row."
        )
    groups = rows.groups
    if groups is not None and (
        groups.shape != (len(rows),) or not np.issubdtype(groups.dtype, np.integer)
    ):
        raise BadInputs(
            f"The {role} groups are {groups.dtype} of shape {groups.shape}; expected integers of "
            f"shape ({len(rows)},), one for each row."
        )
    return Rows(tuple(np.ascontiguousarray(array) for array in rows.arrays), rows.targets, groups)


def _check_array(array: np.ndarray, spec: TensorSpec, what: str) -> None:
    fits = array.ndim == len(spec.shape) and all(
        axis.min <= length <= axis.max if isinstance(axis, Axis) else length == axis
        for length, axis in zip(array.shape[1:], spec.shape[1:], strict=False)
    )
    if not fits or str(array.dtype) != spec.dtype:
        expected = ", ".join(
            f"{axis.min} to {axis.max}" if isinstance(axis, Axis) else str(axis)
            for axis in spec.shape[1:]
        )
        raise BadInputs(
            f"The {what} is {array.dtype} of shape {array.shape}; "
            f"the recipe says {spec.dtype} of shape (rows, {expected})."
        )
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise BadInputs(
            f"The {what} contains NaN or infinity, first in row {row}. Remove or correct such rows."
        )


def _check_held_out(calibration: Rows, evaluation: Rows) -> None:
    def digests(rows: Rows) -> list[bytes]:
        return [
            sha256(b"".join(array[row].tobytes() for array in rows.arrays)).digest()
            for row in range(len(rows))
        ]

    seen = set(digests(calibration))
    shared = sum(digest in seen for digest in digests(evaluation))
    if shared:
        raise BadInputs(
            f"{shared} of {len(evaluation)} evaluation inputs are also calibration inputs. Use "
            "different inputs for `evaluation` and `calibration` in the recipe."
        )
