"""The choice made again from an artifact alone."""

import shutil

import pytest

from shipway.artifact.bundle import open_artifact
from shipway.artifact.errors import AlreadySealed, DigestMismatch
from shipway.export.rechoose import read_samples, rechoose
from tests.conftest import Silent


def test_the_choice_is_made_again_without_the_checkpoint(tiny, tmp_path):
    again = rechoose(tiny.path, Silent(), out=tmp_path, objective="size")
    manifest = open_artifact(again.path).manifest
    assert manifest.chosen == "onnx_int8"
    assert manifest.objective == "size"
    assert manifest.programs == tiny.manifest.programs
    assert manifest.checkpoint_sha256 == tiny.manifest.checkpoint_sha256


def test_an_artifact_that_was_changed_is_not_chosen_from(tiny, tmp_path):
    copy = shutil.copytree(tiny.path, tmp_path / "copy")
    (copy / "samples" / "pixels.npy").write_bytes(b"")
    with pytest.raises(DigestMismatch, match=r"pixels\.npy"):
        rechoose(copy, Silent(), out=tmp_path / "out")


def test_an_artifact_that_exists_is_not_replaced(tiny):
    with pytest.raises(AlreadySealed):
        rechoose(tiny.path, Silent(), out=tiny.path.parent)


def test_samples_come_in_the_order_of_the_inputs(tiny_artifact):
    (pixels,) = read_samples(tiny_artifact)
    assert (pixels.shape[0], str(pixels.dtype)) == (8, "uint8")
