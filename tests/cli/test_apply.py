"""`shipway apply`, on a real server."""

import pytest

from shipway.errors import ShipwayError


def models_file(folder, text: str):
    path = folder / "models.yaml"
    path.write_text(text)
    return path


def test_a_dry_run_shows_the_changes_and_makes_none(shipway, server, echo_mars, tmp_path):
    stored = server.model_store / "echo-2.0.mar"
    stored.write_bytes(echo_mars["2.0"].read_bytes())
    try:
        file = models_file(tmp_path, "models:\n- {name: echo, version: '2.0', default: true}\n")
        result = shipway("apply", file, "--dry-run")
        assert result.exit_code == 0, result.output + repr(result.exception)
        assert "echo" in result.stdout and "2.0" in result.stdout
        assert [each.version for each in server.management.describe("echo")] == ["1.0"]
    finally:
        stored.unlink()


@pytest.mark.parametrize("text", ["models: [", "[]", "models: 7", "models:\n- {name: echo}\n"])
def test_a_file_that_is_no_models_file_is_an_error_that_names_it(shipway, tmp_path, text):
    file = models_file(tmp_path, text)
    assert str(file) in str(shipway("apply", file, fails=ShipwayError).exception)
