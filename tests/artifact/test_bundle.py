import json
import os
import shutil
import time
from pathlib import Path

import pytest

from shipway.artifact.bundle import MANIFEST, open_artifact, seal
from shipway.artifact.digests import SUMS, check_sums, parse_sums, sha256_of, write_sums
from shipway.artifact.errors import (
    AlreadySealed,
    DigestMismatch,
    IncompleteArtifact,
    InvalidManifest,
    NotAnArtifact,
    UnexpectedFile,
    UnsupportedFormat,
)
from shipway.artifact.manifest import Manifest
from shipway.recipe import Axis
from tests.fuzz import minimal


@pytest.fixture
def copy(tiny, tmp_path) -> Path:
    return Path(shutil.copytree(tiny.path, tmp_path / "copy"))


def reseal(folder: Path) -> None:
    (folder / SUMS).unlink()
    write_sums(folder)


def edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    reseal(folder)


def test_an_artifact_opens_as_what_was_exported(tiny, tiny_artifact):
    assert tiny_artifact.manifest == tiny.manifest
    assert tiny_artifact.certificate == tiny.certificate


def test_a_manifest_survives_being_written_and_read(tiny):
    assert Manifest.model_validate_json(tiny.manifest.model_dump_json()) == tiny.manifest


def test_every_file_of_an_artifact_is_guarded_by_its_digest(copy):
    files = [path for path in copy.rglob("*") if path.is_file() and path.name != SUMS]
    assert len(files) >= 6
    for path in files:
        whole = path.read_bytes()
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        with pytest.raises(DigestMismatch, match=path.name):
            open_artifact(copy)
        path.write_bytes(whole)
    open_artifact(copy)


def test_open_refuses_a_program_cut_short(copy):
    program = copy / "programs" / "onnx_fp32.onnx"
    program.write_bytes(program.read_bytes()[:-1])
    with pytest.raises(DigestMismatch, match=r"onnx_fp32\.onnx has changed since"):
        open_artifact(copy)


def test_open_names_a_file_that_is_missing(copy):
    (copy / "certificate.json").unlink()
    with pytest.raises(IncompleteArtifact, match=r"certificate\.json is missing"):
        open_artifact(copy)


def test_open_refuses_a_file_that_nobody_sealed(copy):
    (copy / "programs" / "extra.so").write_bytes(b"\x7fELF")
    with pytest.raises(UnexpectedFile, match=r"extra\.so"):
        open_artifact(copy)


def test_open_refuses_a_folder_that_is_something_else(tmp_path):
    with pytest.raises(NotAnArtifact, match="shipway export"):
        open_artifact(tmp_path)


def test_open_says_which_format_a_newer_artifact_has(copy):
    edit_manifest(copy, format=3)
    with pytest.raises(UnsupportedFormat, match="has format 3; this build reads 2"):
        open_artifact(copy)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"surprise": 1}, "surprise"),
        ({"top_k": 0}, "top_k"),
        ({"chosen": "nothing"}, "chosen is 'nothing'"),
        ({"name": "../evil"}, "name"),
    ],
)
def test_open_names_the_field_that_is_wrong(copy, change, complaint):
    edit_manifest(copy, **change)
    with pytest.raises(InvalidManifest, match=complaint):
        open_artifact(copy)


def test_open_refuses_a_program_outside_the_artifact(copy):
    programs = json.loads((copy / MANIFEST).read_text())["programs"]
    programs["onnx_fp32"]["file"] = "programs/../../elsewhere.onnx"
    edit_manifest(copy, programs=programs)
    with pytest.raises(InvalidManifest, match="file"):
        open_artifact(copy)


def test_sealing_never_replaces_what_is_there(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "old").mkdir()
    with pytest.raises(AlreadySealed, match="--version"):
        seal(tmp_path / "new", tmp_path / "old")


@pytest.mark.parametrize("line", ["x", "0" * 64 + "  ../up", "0" * 64 + "  /etc/passwd", "\x00"])
def test_sums_name_files_inside_the_folder_only(line):
    with pytest.raises(InvalidManifest):
        parse_sums(line.encode(), Path(SUMS))


def test_sums_that_are_no_text_are_refused(tmp_path):
    (tmp_path / SUMS).write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidManifest):
        check_sums(tmp_path)


def test_an_axis_that_ends_before_it_begins_is_refused():
    with pytest.raises(ValueError, match="has max 2, which is below its min 4"):
        Axis(name="batch", min=4, max=2)


def test_verifying_a_hundred_megabytes_costs_hardly_more_than_hashing_them_once(tmp_path):
    folder = minimal.tensors(tmp_path / "artifact").path
    program = folder / "programs" / "onnx_fp32.onnx"
    program.write_bytes(os.urandom(100_000_000))
    programs = json.loads((folder / MANIFEST).read_text())["programs"]
    programs["onnx_fp32"]["sha256"] = sha256_of(program)
    edit_manifest(folder, programs=programs)

    def least_cpu_seconds(call) -> float:
        times = []
        for _ in range(3):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
        return min(times)

    once = least_cpu_seconds(lambda: sha256_of(program))
    assert least_cpu_seconds(lambda: open_artifact(folder)) < 1.3 * once + 0.02
