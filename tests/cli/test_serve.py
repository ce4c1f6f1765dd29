"""`shipway serve`: what it refuses before anything is started."""

import pytest
from typer.testing import CliRunner

from shipway.cli.main import app
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
