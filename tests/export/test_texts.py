"""Passages of prose as inputs."""

import numpy as np
import pytest

from shipway.export.errors import BadInputs
from shipway.export.recipe_file import find_recipe
from shipway.export.texts import passages, tokenized
from shipway.recipe import Recipe


def test_a_text_over_the_limit_is_refused_where_the_recipe_says_so():
    recipe, _ = find_recipe("minilm")
    strict = recipe.preprocessing.model_copy(update={"too_long": "refuse"})
    recipe = Recipe(
        **{
            name: getattr(recipe, name)
            for name in ("name", "task", "module", "weights", "files", "calibration", "evaluation")
        },
        preprocessing=strict,
    )
    with pytest.raises(BadInputs, match="more than the 256 tokens"):
        tokenized(["word " * 300], recipe)


def test_passages_hold_prose_and_neither_code_nor_tables(tmp_path):
    (tmp_path / "guide.rst").write_text(
        "Heading\n=======\n\nA first *sentence* of ``prose``. And a second one\nfollows it.\n\n"
        "Look here::\n\n    >>> code()\n\n====  ====\nx     y\n====  ====\n\n"
        "See :class:`~a.B` for a third [1]_.\n"
    )
    recipe, _ = find_recipe("minilm")
    ids, _ = passages([tmp_path / "guide.rst"], rows=2, seed=0, of="a test").load(recipe).arrays
    expected, _ = tokenized(
        ["A first sentence of prose.", "And a second one follows it. See a.B for a third."], recipe
    )
    assert np.array_equal(ids, expected)


def test_too_few_passages_are_refused_with_their_number(tmp_path):
    (tmp_path / "short.txt").write_text("Only this.")
    recipe, _ = find_recipe("minilm")
    with pytest.raises(BadInputs, match="contain 1 passages; 2 are needed"):
        passages([tmp_path / "short.txt"], rows=2, seed=0, of="a test").load(recipe)
