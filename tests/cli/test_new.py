"""`shipway new`."""

import pytest
from typer.testing import CliRunner

from shipway.cli.main import app
from shipway.errors import ShipwayError


def test_a_recipe_is_written_and_the_next_command_named(tmp_path):
    result = CliRunner().invoke(app, ["new", "my_model", "--folder", str(tmp_path)])
    assert result.exit_code == 0, result.output
    path = tmp_path / "my_model.py"
    assert f"shipway export {path}" in result.stdout
    compile(path.read_text(), path, "exec")


@pytest.mark.parametrize("name", ["two words", "1st", "class", ""])
def test_a_name_that_python_cannot_import_is_refused(tmp_path, name):
    result = CliRunner().invoke(app, ["new", name, "--folder", str(tmp_path)])
    assert isinstance(result.exception, ShipwayError)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_that_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "mine.py").write_text("kept")
    result = CliRunner().invoke(app, ["new", "mine", "--folder", str(tmp_path)])
    assert isinstance(result.exception, ShipwayError)
    assert (tmp_path / "mine.py").read_text() == "kept"


def test_a_recipe_of_a_model_of_torchvision_is_written(tmp_path):
    words = ["new", "mine", "--from", "torchvision", "resnet18", "--folder", str(tmp_path)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert 'get_model("resnet18"' in (tmp_path / "mine.py").read_text()


@pytest.mark.parametrize("source", [["torchvision", "resnet1"], ["hub", "x"], ["hf", "nowhere"]])
def test_a_model_that_is_not_there_is_refused(tmp_path, source):
    result = CliRunner().invoke(app, ["new", "mine", "--from", *source, "--folder", str(tmp_path)])
    assert isinstance(result.exception, ShipwayError)
    assert list(tmp_path.iterdir()) == []
