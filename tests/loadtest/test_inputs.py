import pytest

from shipway.loadtest import inputs
from shipway.loadtest.errors import NoInput
from shipway.tasks import demo_inputs


def test_each_file_of_a_folder_is_an_input_but_hidden_ones_and_folders(tmp_path):
    (tmp_path / "b.json").write_text("{}")
    (tmp_path / "a.jpg").write_bytes(b"jpeg")
    (tmp_path / ".hidden").write_text("")
    (tmp_path / "folder").mkdir()
    found = inputs.from_files([tmp_path])
    assert [(each.name, each.content_type, each.body) for each in found] == [
        ("a.jpg", "image/jpeg", b"jpeg"),
        ("b.json", "application/json", b"{}"),
    ]


def test_a_file_of_no_known_type_is_sent_as_bytes(tmp_path):
    (tmp_path / "it.unknown-type").write_bytes(b"x")
    [found] = inputs.from_files([tmp_path / "it.unknown-type"])
    assert found.content_type == "application/octet-stream"


def test_an_empty_folder_and_an_unreadable_file_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoInput, match="no files in .*empty"):
        inputs.from_files([tmp_path / "empty"])
    with pytest.raises(NoInput, match="missing cannot be read: No such file"):
        inputs.from_files([tmp_path / "missing"])


def test_a_task_has_examples_that_fit_it():
    photos = inputs.for_task("image_classification", [])
    assert photos and all(each.content_type == "image/jpeg" for each in photos)


def test_a_task_that_is_not_known_asks_for_files():
    with pytest.raises(NoInput, match="a model of the task juggling. Give files .* with --input"):
        inputs.for_task("juggling", [])


def test_without_the_packages_of_the_demo_files_are_asked_for(monkeypatch):
    monkeypatch.setattr(demo_inputs, "folder_of", lambda package: None)
    monkeypatch.setattr(inputs, "is_installed", lambda extra: False)
    with pytest.raises(NoInput, match=r"Give files to send with --input, or .* 'shipway\[demo\]'"):
        inputs.for_task("image_classification", [])
