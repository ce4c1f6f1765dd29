"""`shipway serve`: what it refuses before anything is started."""

import socket

import pytest
from typer.testing import CliRunner

from shipway.cli.main import app
from shipway.engines.torchserve.config import read_config
from shipway.errors import ShipwayError
from tests.cli.conftest import unboxed
from tests.servers import write_config


def run(*arguments: object):
    return CliRunner().invoke(app, ["serve", *map(str, arguments)])


def test_a_models_file_and_an_archive_beside_it_contradict_each_other(tmp_path):
    result = run("--models", tmp_path / "models.yaml", "--register", tmp_path / "m-1.0.mar")
    assert result.exit_code == 2
    assert "Add the archive to the models.yaml file" in unboxed(result.output)


@pytest.mark.parametrize("option", ["--models", "--register"])
def test_a_file_that_is_missing_is_named_and_no_server_is_started(tmp_path, option):
    config, missing = write_config(tmp_path), tmp_path / "missing"
    result = run("--config", config, "--state", tmp_path / "state", option, missing)
    assert isinstance(result.exception, ShipwayError)
    assert str(missing) in str(result.exception)
    assert not (tmp_path / "state" / "server.json").exists()


def test_folders_to_which_all_users_may_write_are_closed_to_them(tmp_path):
    config = write_config(tmp_path)
    folders = [tmp_path / "store", tmp_path / "state"]
    for folder in folders:
        folder.mkdir()
        folder.chmod(0o777)
    port = int(read_config(config).addresses.inference.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):  # so that no server starts
        result = run("--config", config, "--model-store", folders[0], "--state", folders[1])
    assert isinstance(result.exception, ShipwayError) and str(port) in str(result.exception)
    for folder in folders:
        assert folder.stat().st_mode & 0o777 == 0o775
        assert f"All users could write to {folder}" in result.output.replace("\n", " ")
