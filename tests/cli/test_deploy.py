"""`shipway deploy`: a group of commands."""

from typer.testing import CliRunner

from shipway.cli.main import app


def test_the_group_lists_its_commands():
    listed = CliRunner().invoke(app, ["deploy", "--help"]).output
    assert "│ kubernetes " in listed and "│ ray " in listed


def test_an_unknown_target_is_refused():
    result = CliRunner().invoke(app, ["deploy", "nomad"])
    assert result.exit_code == 2 and "No such command 'nomad'" in result.output
