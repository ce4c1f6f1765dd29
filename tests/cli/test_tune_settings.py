"""The archive that `shipway tune` measures, and where its model store is."""

import pytest

from shipway.cli.tune_settings import find_archive, find_model_store
from shipway.loadtest.errors import NotReady


@pytest.fixture
def store(tmp_path):
    for name in ("m-1.9.mar", "m-1.10.mar", "m-1.2.mar", "other-7.mar"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_without_a_version_the_newest_archive_is_taken(store):
    assert find_archive(store, "m", None).name == "m-1.10.mar"


def test_a_version_names_its_archive(store):
    assert find_archive(store, "m", "1.2").name == "m-1.2.mar"


def test_an_archive_that_is_missing_is_told_with_those_there_are(store):
    with pytest.raises(NotReady, match="contains no m-3.mar. Its archives: m-1.10.mar, "):
        find_archive(store, "m", "3")


def test_the_store_is_beside_the_configuration_of_the_folder_or_above(tmp_path, monkeypatch):
    (tmp_path / "config.properties").write_text("")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert find_model_store() == tmp_path / "model_store"
