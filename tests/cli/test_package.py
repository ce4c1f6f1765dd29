"""`shipway package`."""

from typer.testing import CliRunner

from shipway.archive.inspect import inspect_mar
from shipway.artifact.errors import ArtifactError
from shipway.cli.main import app


def test_an_artifact_becomes_an_archive_and_its_path_is_printed(tiny_table, tmp_path):
    result = CliRunner().invoke(
        app, ["package", str(tiny_table.path), "--model-store", str(tmp_path / "store")]
    )
    assert result.exit_code == 0, result.output
    [path] = (tmp_path / "store").glob("*.mar")
    assert f"packaged tiny-table 1.0: {path} (" in result.stdout
    assert inspect_mar(path).name == "tiny-table"


def test_a_folder_that_is_no_artifact_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["package", str(tmp_path), "--model-store", str(tmp_path)])
    assert isinstance(result.exception, ArtifactError)
    assert list(tmp_path.iterdir()) == []
