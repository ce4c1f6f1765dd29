"""`shipway deploy ray`, without Ray."""

import yaml
from typer.testing import CliRunner

from shipway.cli.main import app
from shipway.deploy.errors import NotWritable
from tests.cli.conftest import unboxed


def deploy(*arguments: object):
    return CliRunner().invoke(app, ["deploy", "ray", *map(str, arguments)])


def test_fewer_replicas_at_most_than_at_least_are_refused():
    result = deploy("--min-replicas", 3, "--max-replicas", 2)
    assert result.exit_code == 2
    assert "2 is less than --min-replicas (3)." in unboxed(result.output)


def test_the_configuration_is_written_whole_and_the_next_command_named(tiny_table, tmp_path):
    output = tmp_path / "serve.yaml"
    result = deploy(tiny_table.path, "--output", output, "--port", 9000)
    assert result.exit_code == 0, result.output
    assert f"`serve deploy {output} " in result.stdout
    assert yaml.safe_load(output.read_text())["http_options"]["port"] == 9000
    assert [path.name for path in tmp_path.iterdir()] == ["serve.yaml"]


def test_a_folder_that_is_missing_is_named(tiny_table, tmp_path):
    result = deploy(tiny_table.path, "--output", tmp_path / "none" / "serve.yaml")
    assert isinstance(result.exception, NotWritable)
    assert "Choose another path with --output" in str(result.exception)
