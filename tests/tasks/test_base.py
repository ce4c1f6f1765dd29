import pytest

from shipway.recipe import ImagePreprocessing, TablePreprocessing
from shipway.registry import UnknownName
from shipway.runtime.model import Model
from shipway.serving.openapi import describe
from shipway.serving.service import Service
from shipway.tasks import TASKS
from shipway.tasks.base import WrongPreprocessing, preprocessing_of
from tests.conftest import retold

BUILT_IN = [
    "image_classification",
    "tabular_classification",
    "tensors",
    "text_classification",
    "text_embedding",
]


def test_every_built_in_task_is_registered_under_the_name_of_its_file():
    assert set(BUILT_IN) <= TASKS.all().keys()
    for name in BUILT_IN:
        assert TASKS.get(name).__module__ == f"shipway.tasks.{name}"


def test_a_task_gets_the_preprocessing_that_it_needs_or_says_what_is_there(tiny_table):
    manifest = tiny_table.manifest
    assert preprocessing_of(manifest, TablePreprocessing) is manifest.preprocessing
    with pytest.raises(WrongPreprocessing, match="TablePreprocessing.*needs ImagePreprocessing"):
        preprocessing_of(manifest, ImagePreprocessing)


def test_a_task_that_does_not_fit_its_artifact_is_refused_when_it_is_opened(tiny_table, tmp_path):
    artifact = retold(tiny_table, tmp_path / "artifact", task="text_embedding")
    with pytest.raises(WrongPreprocessing, match="needs TextPreprocessing"):
        Service(Model(artifact))


def test_an_unknown_task_is_refused_with_the_known_ones(tiny_table, tmp_path):
    artifact = retold(tiny_table, tmp_path / "artifact", task="telepathy")
    with pytest.raises(
        UnknownName, match="no task named 'telepathy'.*image_classification.*tensors"
    ):
        Service(Model(artifact))
    with pytest.raises(UnknownName, match="no task named 'telepathy'"):
        describe(artifact.manifest, {})
