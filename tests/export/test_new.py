import subprocess
import sys

import pytest
import torch

from shipway.export.errors import ExportError
from shipway.export.new import CannotStartRecipe, new_recipe
from shipway.export.recipe_file import find_recipe


def test_the_new_recipe_is_found_and_runs_as_it_is(tmp_path):
    path = new_recipe("my_model", tmp_path)
    assert path == tmp_path / "my_model.py"
    recipe, _ = find_recipe(str(path))
    assert recipe.name == "my_model"
    pixels = recipe.evaluation.load(recipe).arrays[0]
    assert (pixels.shape[1:], str(pixels.dtype)) == ((64, 64, 3), "uint8")
    normalised = torch.from_numpy(pixels[:2]).permute(0, 3, 1, 2).float()
    assert recipe.module()(normalised).shape == (2, len(recipe.labels()))


def test_the_new_recipe_needs_none_of_the_demos_packages(tmp_path):
    path = new_recipe("my_model", tmp_path)
    code = (
        "import sys; from shipway.export.recipe_file import find_recipe\n"
        "recipe, _ = find_recipe(sys.argv[1]); recipe.evaluation.load(recipe); recipe.module()\n"
        "sys.exit(str({'skimage', 'sklearn', 'torchvision', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.stderr.strip() == "set()"


def test_its_random_weights_are_the_same_in_every_process_that_builds_it(tmp_path):
    recipe, _ = find_recipe(str(new_recipe("my_model", tmp_path)))
    one, other = (recipe.module().state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_new_recipe_is_short_and_marks_what_to_change(tmp_path):
    text = new_recipe("my_model", tmp_path).read_text()
    assert len(text.splitlines()) <= 40
    assert max(map(len, text.splitlines())) <= 100
    for part in ("module()", "weights=", "preprocessing=", "LABELS =", "calibration="):
        (line,) = [
            line for line in text.splitlines() if line.strip().startswith((part, "def " + part))
        ]
        assert "# <--" in line


def test_the_new_recipe_is_formatted_as_this_project_is(tmp_path):
    path = new_recipe("my_model", tmp_path)
    command = [sys.executable, "-m", "ruff", "format", "--check", "--line-length", "100", path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_an_existing_file_is_never_replaced(tmp_path):
    path = new_recipe("my_model", tmp_path)
    path.write_text("mine")
    with pytest.raises(CannotStartRecipe, match="exists already and was not changed"):
        new_recipe("my_model", tmp_path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["", "my-model", "1st", "a.b", "../x", "_x", "é", "my model"])
def test_what_can_be_no_file_of_python_is_refused_with_what_can(tmp_path, name):
    with pytest.raises(CannotStartRecipe, match="shipway new my_model"):
        new_recipe(name, tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["class", "torch", "json", "shipway"])
def test_a_name_that_would_hide_a_package_is_refused(tmp_path, name):
    with pytest.raises(ExportError, match=f"shipway new my_{name}"):
        new_recipe(name, tmp_path)


def test_the_folder_is_made(tmp_path):
    assert new_recipe("my_model", tmp_path / "recipes" / "new").is_file()
