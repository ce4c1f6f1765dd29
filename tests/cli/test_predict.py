"""`shipway predict`, on a real server."""

import json

import pytest

from shipway.engines.errors import ModelNotFound, VersionNotFound
from tests.cli.conftest import unboxed


@pytest.fixture
def files(tmp_path):
    for number in range(12):
        (tmp_path / f"{number}.txt").write_text(f"file {number}")
    (tmp_path / "broken.txt").write_text("broken")
    return tmp_path


@pytest.mark.parametrize("protocol", [[], ["--grpc"]])
def test_predictions_come_one_json_object_a_line_in_the_given_order(shipway, files, protocol):
    asked = [files / f"{number}.txt" for number in range(12)]
    result = shipway("predict", "echo", *asked, "--json", *protocol)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert [line["file"] for line in lines] == [str(file) for file in asked]
    assert [line["predictions"][0]["label"] for line in lines] == [f"file {n}" for n in range(12)]
    assert max(line["predictions"][0]["batch"] for line in lines) > 1


@pytest.mark.parametrize("protocol", [[], ["--grpc"]])
def test_a_file_that_fails_is_told_in_its_place_and_in_the_exit_code(shipway, files, protocol):
    result = shipway("predict", "echo", files / "0.txt", files / "broken.txt", "--json", *protocol)
    first, second = map(json.loads, result.stdout.splitlines())
    assert result.exit_code == 1
    assert "predictions" in first
    assert second["error"] == {"code": 415, "type": "NotAnImage", "message": "It says 'broken'."}


def test_predictions_are_a_table_for_people(shipway, files):
    result = shipway("predict", "echo", files / "0.txt", files / "broken.txt")
    assert all(word in result.stdout for word in ("file 0", "50.0%", "█" * 10))
    assert "415 NotAnImage: It says 'broken'." in result.stdout


def test_a_file_that_is_not_there_is_named_and_nothing_is_asked(shipway, files):
    result = shipway("predict", "echo", files / "0.txt", files / "missing.jpg")
    assert result.exit_code == 2
    assert "missing.jpg" in unboxed(result.output).replace(" ", "") and result.stdout == ""


def test_an_unknown_version_fails_the_whole_command(shipway, files):
    shipway("predict", "echo", files / "0.txt", "--version", "9", fails=VersionNotFound)


def test_an_unknown_model_fails_the_whole_command(shipway, files):
    result = shipway("predict", "nobody", files / "0.txt", fails=ModelNotFound)
    assert "Model 'nobody' is not registered" in str(result.exception)


def test_a_folder_is_refused_before_anything_is_sent(shipway, tmp_path):
    result = shipway("predict", "echo", tmp_path)
    assert result.exit_code == 2 and "is a directory" in unboxed(result.output)


def test_the_times_of_grpc_are_refused_with_what_to_do(shipway, files):
    result = shipway("predict", "echo", files / "0.txt", "--grpc", "--explain")
    assert result.exit_code == 2 and "--explain does not work with --grpc" in unboxed(result.output)


def test_a_handler_without_stage_times_is_explained_by_the_total(shipway, files):
    result = shipway("predict", "echo", files / "0.txt", "--explain")
    assert "the handler does not report the times of its stages" in result.stdout
