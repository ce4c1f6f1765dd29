import shutil
import zipfile
from pathlib import Path

import pytest

from shipway.archive.errors import ArchiveError
from shipway.archive.inspect import inspect_mar
from shipway.artifact.digests import sha256_of
from tests.archive.changed import rewritten
from tests.hostile.archives import with_manifest


def test_a_mar_says_what_its_artifact_says(mar, tiny_artifact):
    info = inspect_mar(mar)
    manifest = tiny_artifact.manifest
    assert mar.name == "tiny-1.0.mar"
    assert (info.name, info.version) == (manifest.name, manifest.version)
    assert info.batch_size == manifest.serving.batch_size
    assert info.digest == sha256_of(mar)


def test_every_member_is_guarded_by_its_digest(mar, tmp_path):
    with zipfile.ZipFile(mar) as archive:
        names = archive.namelist()
    for victim in names:
        changed = rewritten(
            mar,
            tmp_path / "changed.mar",
            lambda name, data, victim=victim: data + b" " if name == victim else data,
        )
        with pytest.raises(ArchiveError, match=victim):
            inspect_mar(changed)


def test_a_missing_member_is_named(mar, tmp_path):
    changed = rewritten(
        mar, tmp_path / "c.mar", lambda name, data: None if name == "entry.py" else data
    )
    with pytest.raises(ArchiveError, match=r"lacks entry\.py"):
        inspect_mar(changed)


@pytest.mark.parametrize("name", ["/etc/evil", "../evil", "a/../../evil", "surprise.so"])
def test_a_member_that_should_not_be_there_is_refused(mar, tmp_path, name):
    changed = Path(shutil.copy(mar, tmp_path / "c.mar"))
    with zipfile.ZipFile(changed, "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(ArchiveError, match="evil|surprise"):
        inspect_mar(changed)


def test_a_link_in_a_mar_is_refused(mar, tmp_path):
    changed = Path(shutil.copy(mar, tmp_path / "c.mar"))
    member = zipfile.ZipInfo("link")
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(changed, "a") as archive:
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(ArchiveError, match="link"):
        inspect_mar(changed)


def test_a_mar_served_under_another_name_than_its_artifact_is_refused(mar, tmp_path):
    with zipfile.ZipFile(mar) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    changed = tmp_path / "c.mar"
    changed.write_bytes(with_manifest(modelName="other")(files))
    with pytest.raises(ArchiveError, match="is named other 1.0"):
        inspect_mar(changed)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_a_mar_cut_short_is_refused(mar, tmp_path, kept):
    whole = mar.read_bytes()
    path = tmp_path / "cut.mar"
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ArchiveError, match=r"cut\.mar is not a complete \.mar"):
        inspect_mar(path)


def test_bits_flipped_anywhere_in_a_mar_are_noticed(mar, tmp_path):
    whole = mar.read_bytes()
    path = tmp_path / "flipped.mar"
    with zipfile.ZipFile(mar) as archive:  # inside the data
        spots = [
            each.header_offset + 30 + len(each.filename) + each.compress_size // 2
            for each in archive.infolist()
            if each.file_size
        ]
    for spot in spots:
        path.write_bytes(whole[:spot] + bytes([whole[spot] ^ 0x10]) + whole[spot + 1 :])
        with pytest.raises(ArchiveError):
            inspect_mar(path)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04"])
def test_what_is_no_mar_is_called_that(tmp_path, content):
    path = tmp_path / "x.mar"
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"x\.mar is not a complete"):
        inspect_mar(path)


def test_a_zip_of_something_else_is_called_that(tmp_path):
    path = tmp_path / "x.mar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ArchiveError, match="not a Shipway archive"):
        inspect_mar(path)


def test_a_mar_that_is_not_there_is_called_that(tmp_path):
    with pytest.raises(ArchiveError, match="does not exist"):
        inspect_mar(tmp_path / "x.mar")
