"""A classifier's outputs are what its recipe says, or the recipe is told what to say."""

from dataclasses import replace

import numpy as np
import pytest

from shipway.export.errors import BadInputs
from shipway.export.recipe_file import find_recipe
from shipway.export.task_outputs import are_probabilities, check_outputs
from shipway.recipe import InvalidRecipe, Recipe
from tests.conftest import DATA

LOGITS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
LABELS = ("a", "b", "c")


@pytest.fixture
def recipe() -> Recipe:
    found, _ = find_recipe(str(DATA / "tiny_table_recipe.py"))
    return found


@pytest.mark.parametrize(
    ("scores", "labels", "outputs"),
    [
        ("logits", LABELS, LOGITS),
        ("logits", LABELS, np.log(PROBABILITIES)),
        ("probabilities", LABELS, PROBABILITIES),
        ("probabilities", LABELS, PROBABILITIES.astype(np.float16)),
        ("binary", LABELS[:2], LOGITS[:, :1]),
        ("binary", LABELS[:2], LOGITS[:, 0]),
        ("multi_label", LABELS, LOGITS),
        ("multi_label", LABELS[:1], LOGITS[:, :1]),
    ],
)
def test_scores_that_fit_are_accepted(recipe, scores, labels, outputs):
    check_outputs(replace(recipe, scores=scores), labels, {"logits": outputs})


@pytest.mark.parametrize(
    ("scores", "labels", "outputs", "reason"),
    [
        ("logits", LABELS, PROBABILITIES, 'Set scores="probabilities"'),
        ("logits", LABELS[:2], LOGITS[:, :1], 'set scores="binary"'),
        ("logits", LABELS[:1], LOGITS[:, 0], 'set scores="binary"'),
        ("logits", LABELS[:2], LOGITS, "2 labels; the module has 3 outputs"),
        ("probabilities", LABELS, LOGITS, 'Set scores="logits"'),
        ("probabilities", LABELS, np.abs(LOGITS), 'Set scores="logits"'),
        ("binary", LABELS[:2], LOGITS[:, :2], "one logit a row"),
        ("binary", LABELS, LOGITS[:, :1], "found outputs of shape 1 and 3 labels"),
        ("binary", LABELS[:2], 1 / (1 + np.exp(-LOGITS[:, :1])), "without sigmoid"),
        ("multi_label", LABELS, 1 / (1 + np.exp(-LOGITS)), "without sigmoid"),
        ("logits", LABELS, LOGITS.argmax(axis=1), "without argmax"),
    ],
)
def test_other_scores_are_refused_with_what_to_write(recipe, scores, labels, outputs, reason):
    with pytest.raises(BadInputs, match=reason):
        check_outputs(replace(recipe, scores=scores), labels, {"logits": outputs})


def test_of_several_outputs_one_has_to_be_chosen(recipe):
    outputs = {"features": LOGITS, "logits": LOGITS}
    with pytest.raises(BadInputs, match=r"2 outputs \(features, logits\).*outputs=\['logits'\]"):
        check_outputs(recipe, LABELS, outputs)


def test_rows_that_add_up_to_one_are_probabilities():
    assert are_probabilities(PROBABILITIES)
    assert not are_probabilities(LOGITS)
    assert not are_probabilities(PROBABILITIES * 1.01)


def test_scores_of_no_known_kind_are_refused(recipe):
    with pytest.raises(InvalidRecipe, match="'logits', 'probabilities', 'binary', 'multi_label'"):
        replace(recipe, scores="softmax")


@pytest.mark.parametrize(
    ("task", "labels", "outputs", "reason"),
    [
        ("tabular_regression", ("a", "b"), LOGITS, "2 labels; the module returns 3 numbers a row"),
        ("tabular_regression", ("a", "a", "b"), LOGITS, "labels are the same"),
        ("tabular_regression", (), LOGITS[:, None], "returns 1 × 3 numbers a row"),
        ("tabular_regression", (), LOGITS.argmax(axis=1), "is int64, and .* needs floats"),
        ("text_embedding", (), LOGITS[:, None], r"1 × 3 numbers a row, .* a vector\. Pool it"),
        ("text_embedding", (), LOGITS[:, 0], "answers with a vector"),
    ],
)
def test_values_and_vectors_have_their_shapes(recipe, task, labels, outputs, reason):
    with pytest.raises(BadInputs, match=reason):
        check_outputs(replace(recipe, task=task), labels, {"output": outputs})


def test_values_and_vectors_that_fit_are_accepted(recipe):
    for task, labels, outputs in (
        ("tabular_regression", (), LOGITS[:, 0]),
        ("tabular_regression", ("price",), LOGITS[:, :1]),
        ("image_regression", LABELS, LOGITS),
        ("image_embedding", (), LOGITS),
        ("tensors", (), LOGITS[:, None]),
    ):
        check_outputs(replace(recipe, task=task), labels, {"output": outputs})
    several = {"hidden": LOGITS, "pooled": LOGITS}
    with pytest.raises(BadInputs, match=r"outputs=\['pooled'\]"):
        check_outputs(replace(recipe, task="text_embedding"), (), several)
