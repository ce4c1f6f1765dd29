"""Files that are written again when somebody else has changed them."""

import os
from pathlib import Path

import pytest

from shipway.files import atomic_write
from shipway.front.kept import KeptFiles


@pytest.fixture
def kept(tmp_path):
    files = KeptFiles(tmp_path)
    files.write("a.json", "good")
    files.write("b.json", "good, too")
    return files


def inode(path: Path) -> int:
    return path.stat().st_ino


def test_what_nobody_changed_is_left_alone(kept, tmp_path):
    before = inode(tmp_path / "a.json")
    assert kept.restore() == []
    kept.write("a.json", "good")
    assert inode(tmp_path / "a.json") == before
    assert (tmp_path / "a.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text("evil"),
        lambda path: atomic_write(path, "garbage"),
        Path.unlink,
        lambda path: os.truncate(path, 1),
    ],
    ids=["overwritten", "replaced", "deleted", "cut short"],
)
def test_what_somebody_changed_is_written_again(kept, tmp_path, damage):
    damage(tmp_path / "a.json")
    assert kept.restore() == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "good"
    assert kept.restore() == []


def test_what_was_touched_is_not_told(kept, tmp_path):
    os.utime(tmp_path / "a.json", (0, 0))
    assert kept.restore() == []


def test_what_was_removed_does_not_come_back(kept, tmp_path):
    kept.remove("a.json")
    kept.remove("a.json")
    assert kept.restore() == [] and not (tmp_path / "a.json").exists()


def test_what_is_changed_in_the_moment_of_writing_is_written_again(kept, tmp_path, monkeypatch):
    def followed_by_another(path: Path, text: str, **options: bool) -> None:
        atomic_write(path, text, **options)
        path.write_text("evil")

    with monkeypatch.context() as racing:
        racing.setattr("shipway.front.kept.atomic_write", followed_by_another)
        kept.write("a.json", "better")
    assert kept.restore() == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "better"
