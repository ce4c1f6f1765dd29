"""Recipes are found by name upward from here, and by path."""

import sys
from pathlib import Path

import pytest

from shipway.export.recipe_file import find_recipe, is_in_project, recipes_folder
from shipway.recipe import InvalidRecipe
from tests.conftest import REPOSITORY


def test_an_unknown_recipe_is_told_which_there_are():
    with pytest.raises(InvalidRecipe, match="Available recipes: .*efficientnet_lite0"):
        find_recipe("efficientnet_lite00")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = 1", "defines no `recipe"),
        ("import nothing_like_it", "ModuleNotFoundError"),
        ("(", "Syn"),
    ],
)
def test_a_file_that_is_no_recipe_is_told_why(tmp_path, text, complaint):
    (tmp_path / "r.py").write_text(text)
    with pytest.raises(InvalidRecipe, match=complaint):
        find_recipe(str(tmp_path / "r.py"))


RECIPE = """
from export.training.numbers import TOP
from shipway.recipe import Inputs, Recipe, TablePreprocessing

recipe = Recipe(
    name="mine",
    task="tabular_classification",
    module=lambda: None,
    weights=lambda: None,
    preprocessing=TablePreprocessing(columns=("a",), source="a test"),
    top_k=TOP,
    calibration=Inputs(description="", load=lambda recipe: None),
    evaluation=Inputs(description="", load=lambda recipe: None),
)
"""


def test_each_recipe_gets_the_module_beside_it_as_it_is_now(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))

    def top_k(folder: str, number: int) -> int:
        """What a recipe takes from the module beside it, in which `number` is written."""
        home = tmp_path / folder
        home.mkdir(exist_ok=True)
        (home / "beside_recipe.py").write_text(f"TOP = {number}\n" + "#" * number)
        text = RECIPE.replace("export.training.numbers", "beside_recipe")
        (home / "mine.py").write_text(text)
        recipe, _ = find_recipe(str(home / "mine.py"))
        return recipe.top_k

    assert top_k("one", 3) == 3
    assert top_k("two", 4) == 4
    assert top_k("one", 5) == 5


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of somebody else, whose recipe imports its own export/training/."""
    (tmp_path / "export" / "recipes").mkdir(parents=True)
    (tmp_path / "export" / "training").mkdir()
    (tmp_path / "export" / "training" / "numbers.py").write_text("TOP = 7")
    (tmp_path / "export" / "recipes" / "mine.py").write_text(RECIPE)
    (tmp_path / "deep" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "below")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(REPOSITORY)])
    for name in [name for name in sys.modules if name.split(".")[0] == "export"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def test_a_name_is_looked_up_in_the_nearest_project_upward(project):
    recipe, path = find_recipe("mine")
    assert path == project / "export" / "recipes" / "mine.py"
    assert recipe.top_k == 7
    assert is_in_project("mine") and not is_in_project("digits")


def test_a_recipe_of_a_project_imports_its_training_by_path_too(project):
    recipe, _ = find_recipe(str(project / "export" / "recipes" / "mine.py"))
    assert recipe.name == "mine"


def test_without_a_project_the_error_says_how_to_give_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipes_folder(tmp_path) is None
    with pytest.raises(InvalidRecipe, match=r"shipway export my_recipe\.py"):
        find_recipe("mine")


def test_a_path_without_a_file_is_named(tmp_path):
    with pytest.raises(InvalidRecipe, match=r"no_such_file\.py"):
        find_recipe(str(tmp_path / "no_such_file.py"))
