"""Files that come with the package, and files that are written whole."""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shipway import files
from shipway.files import atomic_write, keep_others_out, shipped
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


@pytest.mark.parametrize(
    ("mode", "after", "told"),
    [
        (0o700, 0o700, None),
        (0o775, 0o775, None),  # a group that deploys together
        (0o777, 0o775, "was removed"),
        (0o2757, 0o2755, "was removed"),
        (0o1777, 0o1777, "use a folder of your own"),
    ],
)
def test_others_may_not_write_to_a_folder_whose_files_are_run(tmp_path, mode, after, told):
    folder = tmp_path / "model_store"
    folder.mkdir()
    folder.chmod(mode)
    remark = keep_others_out(folder)
    assert folder.stat().st_mode & 0o7777 == after
    assert (remark is None) if told is None else (told in remark and str(folder) in remark)


def test_others_cannot_write_to_a_folder_that_does_not_exist(tmp_path):
    assert keep_others_out(tmp_path / "none") is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_that_all_may_write_to_is_told():
    # Pytest's own folders are closed to that user.
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    code = (
        "import os, pathlib, sys; from shipway.files import keep_others_out\n"
        "os.setuid(65534); print(keep_others_out(pathlib.Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder], check=True, capture_output=True, text=True
    )
    assert "belongs to another user" in done.stdout
    assert folder.stat().st_mode & 0o777 == 0o777
    folder.rmdir()
