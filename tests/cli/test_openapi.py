"""`shipway openapi`."""

import json

from typer.testing import CliRunner

from shipway.cli.main import app


def test_the_description_is_json_with_the_models_paths(tiny_table):
    result = CliRunner().invoke(app, ["openapi", str(tiny_table.path)])
    assert result.exit_code == 0, result.output
    described = json.loads(result.stdout)
    assert described["openapi"].startswith("3.")
    assert any("tiny-table" in path for path in described["paths"])
