"""Checks that a module's outputs are what its task answers with.

N = rows, K = classes.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from shipway.export.errors import BadInputs
from shipway.recipe import Recipe
from shipway.tasks import TASKS

MOST_CLASSES_OF_PIXELS = 255
"""A mask has a byte for each pixel, of which one value is for those that were not seen."""
SUMS_TO_ONE = 1e-3
"""How far the sum of a row's probabilities may be from 1; in float16 it is rounded to 0.0005."""


def check_outputs(recipe: Recipe, labels: Sequence[str], outputs: Mapping[str, np.ndarray]) -> None:
    """Raises BadInputs, with what to write in the recipe, unless the outputs fit the task.

    `outputs` are eager's for the evaluation rows, by name, each (N, …).
    """
    task = TASKS.get(recipe.task)
    kinds = (task.classifies, task.embeds, task.regresses, task.segments, task.tags)
    if not any(kinds):
        return
    if len(outputs) > 1:
        names = list(outputs)
        raise BadInputs(
            f"The module returns {len(names)} outputs ({', '.join(names)}), and {recipe.task} "
            f"answers from one. Choose it in the recipe, for example outputs=[{names[-1]!r}]."
        )
    ((name, output),) = outputs.items()
    if not np.issubdtype(output.dtype, np.floating):
        wanted = "a score for each class. Return the scores, without argmax"
        raise BadInputs(
            f"The module's output {name} is {output.dtype}, and {recipe.task} needs "
            f"{wanted if task.classifies else 'floats. Return them'}."
        )
    if task.classifies:
        _check_scores(recipe, labels, output)
    elif task.embeds and output.ndim != 2:
        raise BadInputs(
            f"The module's output {name} is {_described(output.shape[1:])} numbers a row, and "
            f"{recipe.task} answers with a vector. Pool it in `forward`, for example by a mean."
        )
    elif task.regresses:
        _check_values(labels, output)
    elif task.tags:
        if output.ndim != 3 or output.shape[2] != len(labels):
            raise BadInputs(
                f"The module returns {_described(output.shape[1:])} numbers a row, and the recipe "
                f"has {len(labels)} labels; expected a logit for each token and label, of shape "
                "(tokens, labels)."
            )
    elif task.segments:
        _check_places(labels, output)


def _check_values(labels: Sequence[str], values_NK: np.ndarray) -> None:
    if values_NK.ndim > 2:
        raise BadInputs(
            f"The module returns {_described(values_NK.shape[1:])} numbers a row; expected one, or "
            'a vector. For other shapes use task="tensors" in the recipe.'
        )
    count = 1 if values_NK.ndim == 1 else values_NK.shape[1]
    if labels and len(labels) != count:
        raise BadInputs(
            f"The recipe has {len(labels)} labels; the module returns {count} numbers a row. Give "
            "one label for each, or none."
        )
    if len(set(labels)) != len(labels):
        raise BadInputs("Two of the recipe's labels are the same. Give each value its own name.")


def _check_places(labels: Sequence[str], logits_NKhw: np.ndarray) -> None:
    if logits_NKhw.ndim != 4 or logits_NKhw.shape[1] != len(labels):
        raise BadInputs(
            f"The module returns {_described(logits_NKhw.shape[1:])} numbers a row, and the recipe "
            f"has {len(labels)} labels; expected a logit for each label and place, of shape "
            "(labels, height, width). For one logit return two: cat([-x, x], 1) / 2."
        )
    if len(labels) > MOST_CLASSES_OF_PIXELS:
        raise BadInputs(
            f"The recipe has {len(labels)} labels; a mask has at most {MOST_CLASSES_OF_PIXELS}."
        )


def _check_scores(recipe: Recipe, labels: Sequence[str], scores_NK: np.ndarray) -> None:
    _check_count(recipe, len(labels), scores_NK)
    if recipe.scores == "probabilities" and not are_probabilities(scores_NK):
        raise BadInputs(
            "The recipe says that the module returns probabilities, but they are not between 0 and "
            '1 with a sum of 1 in each row. Set scores="logits", or "multi_label" for independent '
            "labels."
        )
    if recipe.scores == "logits" and are_probabilities(scores_NK):
        raise BadInputs(
            "The module returns probabilities, since each row adds up to 1, and softmax of them "
            'would be wrong. Set scores="probabilities" in the recipe.'
        )
    if recipe.scores in ("binary", "multi_label") and ((scores_NK >= 0) & (scores_NK <= 1)).all():
        raise BadInputs(
            f'The recipe\'s scores are "{recipe.scores}", which are logits, but all outputs are '
            "between 0 and 1. Return the logits, without sigmoid."
        )


def are_probabilities(scores_NK: np.ndarray) -> bool:
    """Whether all rows are probabilities that add up to 1."""
    in_range = bool(((scores_NK >= 0) & (scores_NK <= 1 + SUMS_TO_ONE)).all())
    sums_N = scores_NK.reshape(len(scores_NK), -1).sum(axis=1, dtype=np.float64)
    return in_range and bool((np.abs(sums_N - 1) <= SUMS_TO_ONE).all())


def _check_count(recipe: Recipe, labels: int, scores_NK: np.ndarray) -> None:
    row_shape = scores_NK.shape[1:]
    if recipe.scores == "binary":
        if row_shape not in ((), (1,)) or labels != 2:
            raise BadInputs(
                f'For scores="binary" the module must return one logit a row, and the recipe give '
                f"2 labels; found outputs of shape {_described(row_shape)} and {labels} labels."
            )
        return
    if row_shape in ((), (1,)) and labels <= 2 and recipe.scores != "multi_label":
        raise BadInputs(
            "The module returns one number a row, whose softmax is always 1. For a logit of the "
            'second of two classes set scores="binary" in the recipe, with 2 labels.'
        )
    if row_shape != (labels,):
        raise BadInputs(
            f"The recipe has {labels} labels; the module has {_described(row_shape)} outputs. Give "
            "one label for each output."
        )


def _described(row_shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, row_shape)) or "1"
