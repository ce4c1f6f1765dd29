"""What a recipe names is checked before any work is done."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from shipway.export.errors import BadInputs, CheckpointDoesNotFit
from shipway.export.pipeline import export
from shipway.export.recipe_data import load_labels, load_recipe_data
from shipway.export.recipe_file import find_recipe
from shipway.recipe import Inputs, Recipe, Rows
from tests.conftest import DATA, TINY_RECIPE, Silent
from tests.export.workbench import edited


def test_a_checkpoint_of_another_architecture_is_refused_before_any_work(tmp_path):
    state = {"features.0.weight": torch.zeros(8, 3, 5, 5), "surprise": torch.zeros(1)}
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(CheckpointDoesNotFit, match=r"missing .*unexpected \(surprise\)"):
        export(str(TINY_RECIPE), Silent(), weights=tmp_path / "other.pth", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("coarse.repeat(16, axis=1)", "coarse.repeat(8, axis=1)"), "of shape"),
        (("np.uint8)", "np.int64)"), "int64"),
        (("(24, 4, 4, 3)", "(1, 4, 4, 3)"), "Give at least 2"),
        (("evaluation=noise(1)", "evaluation=noise(0)"), "also calibration inputs"),
        (("range(10)", "range(9)"), "9 labels; the module has 10"),
    ],
)
def test_inputs_that_do_not_fit_the_recipe_are_refused(tmp_path, change, complaint):
    with pytest.raises(BadInputs, match=complaint):
        export(edited(tmp_path, it=change), Silent(), out=tmp_path / "out")


@pytest.fixture
def recipe() -> Recipe:
    return find_recipe(str(DATA / "tiny_table_recipe.py"))[0]


def loads(rows: Rows) -> Inputs:
    return Inputs(description="a test", load=lambda recipe: rows)


def table(rows: int, value: float = 0.0) -> np.ndarray:
    return np.full((rows, 5), value, np.float32)


def test_a_checked_recipe_comes_with_its_rows_files_and_plugins(recipe, tmp_path):
    path = tmp_path / "recipe.py"
    data = load_recipe_data(replace(recipe, plugins=("mine",)), path)
    assert (len(data.calibration), len(data.evaluation)) == (24, 24)
    assert data.plugins == (tmp_path / "mine.py",)
    assert data.checkpoint is not None and len(data.checkpoint_sha256) == 64


def test_random_weights_have_a_digest_of_their_own(recipe, tmp_path):
    def seeded(seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        return recipe.module()

    first, same, other = (
        load_recipe_data(
            replace(recipe, module=lambda seed=seed: seeded(seed), weights=lambda: None), tmp_path
        )
        for seed in (1, 1, 2)
    )
    assert first.checkpoint is None
    assert first.checkpoint_sha256 == same.checkpoint_sha256 != other.checkpoint_sha256


def test_random_weights_of_any_type_have_a_digest(recipe, tmp_path):
    def half() -> torch.nn.Module:
        torch.manual_seed(0)
        return recipe.module().to(torch.bfloat16)

    data = load_recipe_data(
        replace(recipe, module=half, weights=lambda: None), tmp_path / "recipe.py"
    )
    assert data.checkpoint is None and len(data.checkpoint_sha256) == 64


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (Rows(()), "with 1 arrays, one for each of features"),
        (Rows(table(4)), "with 1 arrays, one for each of features"),  # type: ignore[arg-type]
        (Rows((table(4).tolist(),)), "inputs' features are an object of type list. Give NumPy"),
        (Rows((torch.zeros(4, 5),)), "inputs' features are an object of type Tensor"),  # type: ignore[arg-type]
        (Rows((table(4),), [0, 1, 2, 0]), "inputs' targets are an object of type list"),  # type: ignore[arg-type]
        (table(4), "evaluation inputs returned an object of type ndarray. Return Rows"),
        (Rows((table(4, np.nan),)), "NaN or infinity, first in row 0"),
        (Rows((table(1),)), "have 1 rows. Give at least 2"),
        (Rows((table(4),), np.zeros(3, np.int64)), r"targets have shape \(3,\); expected \(4,\)"),
        (Rows((table(4),), groups=np.zeros(3, int)), r"groups are int64 of shape \(3,\); expected"),
        (Rows((table(4),), groups=np.zeros(4)), "groups are float64"),
        (Rows((table(4)[:, :3],)), r"is float32 of shape \(4, 3\); the recipe says .*\(rows, 5\)"),
    ],
)
def test_rows_that_do_not_fit_are_described(recipe, tmp_path, rows, complaint):
    with pytest.raises(BadInputs, match=complaint):
        load_recipe_data(replace(recipe, evaluation=loads(rows)), tmp_path)


def test_what_a_recipes_function_raises_names_the_line(recipe, tmp_path):
    def missing() -> None:
        raise KeyError("no such photo")

    with pytest.raises(BadInputs, match=r"weights raised KeyError: .*test_recipe_data\.py, line"):
        load_recipe_data(replace(recipe, weights=missing), tmp_path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"module": lambda: None}, "module returned an object of type NoneType. Return a torch"),
        ({"module": lambda width: None}, r"module raised TypeError: .*'width'$"),
        ({"weights": lambda: {"weight": torch.zeros(1)}}, "weights returned .* dict. Return the"),
        ({"files": lambda: ["tokenizer.json"]}, "files returned .* list. Return a dict of paths"),
    ],
)
def test_what_a_recipes_function_returns_is_what_it_should_be(recipe, tmp_path, changes, complaint):
    with pytest.raises(BadInputs, match=complaint):
        load_recipe_data(replace(recipe, **changes), tmp_path)


def test_a_function_that_takes_no_recipe_is_no_fault_of_ours(recipe, tmp_path):
    rows = Inputs(description="a test", load=lambda: Rows((table(4),)))
    with pytest.raises(BadInputs, match="evaluation inputs raised TypeError: .* was given$"):
        load_recipe_data(replace(recipe, evaluation=rows), tmp_path)


def test_a_file_that_does_not_exist_is_named(recipe, tmp_path):
    files = {"tokenizer.json": tmp_path / "tokenizer.json"}
    with pytest.raises(BadInputs, match=r"'tokenizer\.json' does not exist"):
        load_recipe_data(replace(recipe, files=lambda: files), tmp_path)


def test_a_classifier_has_one_label_for_each_output(recipe):
    logits = {"logits": np.zeros((5, 3), np.float32) + [0, 3, -1]}
    assert load_labels(recipe, logits) == ("red", "green", "blue")
    with pytest.raises(BadInputs, match="labels contain 2, of type int. Return a text"):
        load_labels(replace(recipe, labels=lambda: ["a", "b", 2]), logits)
    several = {"logits": np.ones((5, 2, 4), np.float32)}
    with pytest.raises(BadInputs, match="3 labels; the module has 2 × 4 outputs"):
        load_labels(recipe, several)
    assert load_labels(replace(recipe, task="tensors"), several) == ("red", "green", "blue")
