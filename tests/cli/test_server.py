import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from shipway.cli.main import app
from shipway.engines.errors import ServerError, VersionExists, VersionNotFound
from shipway.errors import ShipwayError
from tests.echo import mar_info


@pytest.fixture
def shipway(server):
    """The command on the test's server, with .mar files that are nothing but a handler let in."""

    def inspect(path):
        if path.suffix != ".mar" or not path.exists():
            raise ShipwayError(f"{path} is no .mar")
        return mar_info(path, "echo", path.stem.removeprefix("echo-"))

    def run(*arguments: object, fails: type[ShipwayError] | None = None):
        result = CliRunner().invoke(
            app,
            [*map(str, arguments)],
            env={"SHIPWAY_STATE": str(server.state.path)},
            obj=inspect,
        )
        if fails:
            assert isinstance(result.exception, fails), result.output
        return result

    return run


@pytest.fixture
def files(tmp_path):
    for number in range(12):
        (tmp_path / f"{number}.txt").write_text(f"file {number}")
    (tmp_path / "broken.txt").write_text("broken")
    return tmp_path


def test_a_version_goes_through_its_life_and_every_step_prints_one_line(shipway, server, echo_mars):
    def says(*arguments: object) -> str:
        result = shipway(*arguments)
        assert result.exit_code == 0, result.output
        assert len(result.stdout.splitlines()) == 1
        return result.stdout

    printed = says("register", echo_mars["2.0"], "--batch-size", 3, "--max-batch-delay", 7)
    assert "registered echo 2.0 (1 worker, batches of 3, 7 ms delay)" in printed
    assert "the default is still 1.0; `shipway promote echo 2.0`" in printed
    assert (server.model_store / "echo-2.0.mar").exists()

    shipway("register", echo_mars["2.0"], fails=VersionExists)

    assert "promoted echo 2.0, from 1.0" in says("promote", "echo", "2.0")
    table = shipway("models").stdout
    assert all(word in table for word in ("echo", "1.0", "2.0", "●", "1 of 1", "7 ms"))

    assert "promoted echo 1.0, from 2.0" in says("promote", "echo", "1.0")
    assert says("unregister", "echo", "2.0") == "unregistered echo 2.0\n"


def test_an_archive_that_is_refused_never_reaches_the_server_or_the_store(
    shipway, server, tmp_path
):
    before = sorted(server.model_store.iterdir())
    (tmp_path / "echo-4.0.zip").write_bytes(b"PK")
    assert "is no .mar" in str(shipway("register", tmp_path / "echo-4.0.zip").exception)
    assert sorted(server.model_store.iterdir()) == before


def test_an_archive_whose_workers_fail_is_not_left_in_the_store(shipway, server, echo_mars):
    shipway("register", echo_mars["3.0"], fails=ServerError)
    assert not (server.model_store / "echo-3.0.mar").exists()
    assert [one.version for one in server.management.describe("echo")] == ["1.0"]


def test_lists_come_as_json_for_scripts(shipway):
    [listed] = json.loads(shipway("models", "--json").stdout)
    assert listed["name"] == "echo" and listed["default"] is True
    [described] = json.loads(shipway("describe", "echo", "--json").stdout)
    assert described["worker_pids"] == listed["worker_pids"]


def test_a_description_is_a_table_of_facts(shipway):
    printed = shipway("describe", "echo").stdout
    assert all(word in printed for word in ("echo-1.0.mar", "worker processes", "50 ms", "cpu"))


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
    assert "missing.jpg" in result.output and result.stdout == ""


def test_an_unknown_version_fails_the_whole_command(shipway, files):
    shipway("predict", "echo", files / "0.txt", "--version", "9", fails=VersionNotFound)


@pytest.mark.parametrize(
    "arguments",
    [("models",), ("describe", "m"), ("promote", "m", "1"), ("unregister", "m", "1"), ("stop",),
     ("predict", "m", __file__)],
    ids=lambda arguments: arguments[0],
)  # fmt: skip
def test_without_a_server_each_verb_says_so_and_fails(tmp_path, arguments):
    done = subprocess.run(
        [sys.executable, "-m", "shipway.cli.main", *arguments, "--state", tmp_path / "empty"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: No server is running here")


def test_register_checks_the_archive_and_then_asks_for_a_server(shipway, echo_mars, tmp_path):
    empty = tmp_path / "empty"
    missing = shipway("register", tmp_path / "m-1.0.mar", "--state", empty, fails=ShipwayError)
    assert "is no .mar" in str(missing.exception)
    alone = shipway("register", echo_mars["1.0"], "--state", empty, fails=ShipwayError)
    assert "No server is running here" in str(alone.exception)
