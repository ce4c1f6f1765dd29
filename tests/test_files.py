"""Files that come with the package, and files that are written whole."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shipway import files
from shipway.files import atomic_write, shipped
from tests.conftest import REPOSITORY


def test_a_checkout_has_the_shipped_files_at_its_top():
    assert shipped("config.properties") == REPOSITORY / "config.properties"
    assert (shipped("handlers") / "generic.py").is_file()
    assert (shipped("deploy/kubernetes") / "base").is_dir()


def test_a_wheel_has_the_shipped_files_in_the_package(tmp_path, monkeypatch):
    (tmp_path / "handlers").mkdir()
    monkeypatch.setattr(files, "_SHIPPED", tmp_path)
    assert shipped("handlers") == tmp_path / "handlers"
    assert shipped("config.properties") == REPOSITORY / "config.properties"


@pytest.mark.parametrize("content", ["text: é", b"\x00bytes"])
@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_whole(tmp_path, content, durable):
    path = tmp_path / "record.json"
    path.write_text("old")
    with path.open() as reader:  # whoever has the old file open goes on reading the old content
        atomic_write(path, content, durable=durable)
        assert reader.read() == "old"
    data = path.read_bytes()
    assert data == (content.encode() if isinstance(content, str) else content)
    assert [each.name for each in tmp_path.iterdir()] == ["record.json"]


def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    path.write_text("old")

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        atomic_write(path, "new")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["record.json"]


def test_a_folder_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        atomic_write(tmp_path / "missing" / "record.json", "content")
    assert not list(tmp_path.iterdir())


def test_a_reader_never_sees_half_a_file_while_threads_write_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    contents = [letter * 200_000 for letter in "abcd"]
    atomic_write(path, contents[0])

    def write(content: str) -> None:
        for _ in range(25):
            atomic_write(path, content)

    with ThreadPoolExecutor(len(contents)) as threads:
        writers = [threads.submit(write, content) for content in contents]
        while not all(writer.done() for writer in writers):
            assert path.read_text() in contents
    for writer in writers:
        writer.result()
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
