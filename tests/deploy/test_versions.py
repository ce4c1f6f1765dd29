"""Which versions a command line or a models file deploys."""

import pytest

from shipway.artifact.errors import NotAnArtifact
from shipway.deploy.errors import NotDeployable
from shipway.deploy.versions import read_versions
from shipway.releases.models_file import ModelsFileError
from tests.conftest import retold


@pytest.fixture(scope="module")
def newer(tiny_table, tmp_path_factory):
    return retold(tiny_table, tmp_path_factory.mktemp("newer"), version="2.0")


def test_the_last_artifact_of_a_model_is_its_default(tiny_table, newer):
    versions = read_versions([newer.path, tiny_table.path], None)
    assert [(model.version, model.default) for model, _ in versions] == [
        ("2.0", False),
        ("1.0", True),
    ]
    assert [artifact.digest for _, artifact in versions] == [newer.digest, tiny_table.digest]


def test_a_models_file_names_versions_and_the_default(tiny_table, newer, tmp_path):
    file = tmp_path / "models.yaml"
    file.write_text(
        "models:\n"
        f'  - {{name: tiny-table, version: "1.0", artifact: "{tiny_table.path}"}}\n'
        f'  - {{name: tiny-table, version: "2.0", artifact: "{newer.path}", default: true}}\n'
    )
    versions = read_versions([], file)
    assert {model.version: model.default for model, _ in versions} == {"1.0": False, "2.0": True}


def test_a_version_that_is_given_twice_is_refused_with_both_places(tiny_table):
    with pytest.raises(NotDeployable, match=f"given twice: {tiny_table.path}"):
        read_versions([tiny_table.path, tiny_table.path], None)


def test_nothing_and_an_empty_file_are_refused(tmp_path):
    with pytest.raises(NotDeployable, match="Give artifact folders, or a models.yaml"):
        read_versions([], None)
    file = tmp_path / "models.yaml"
    file.write_text("models: []\n")
    with pytest.raises(NotDeployable, match="lists no model"):
        read_versions([], file)


def test_artifacts_and_a_file_together_are_refused(tiny_table, tmp_path):
    with pytest.raises(NotDeployable, match="Give either artifacts or --models"):
        read_versions([tiny_table.path], tmp_path / "models.yaml")


def test_a_folder_that_is_no_artifact_is_refused(tmp_path):
    with pytest.raises(NotAnArtifact):
        read_versions([tmp_path], None)


def test_a_version_without_an_artifact_is_refused(tmp_path):
    file = tmp_path / "models.yaml"
    file.write_text('models: [{name: tiny-table, version: "1.0"}]\n')
    with pytest.raises(ModelsFileError, match="artifact"):
        read_versions([], file)
