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


def test_the_passages_of_one_file_are_one_group(tmp_path):
    files = [tmp_path / f"{name}.txt" for name in ("first", "second")]
    for file in files:
        file.write_text(f"This is the first sentence of {file.stem}.\n\nAnd a second one follows.")
    recipe, _ = find_recipe("minilm")
    rows = passages(files, rows=2, seed=0, of="a test").load(recipe)
    assert rows.groups.tolist() == [0, 1]
    one = passages(files[:1] * 3, rows=3, seed=0, of="a test").load(recipe)
    assert one.groups.tolist() == [0, 1, 2]
