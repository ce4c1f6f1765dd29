"""The choice made again from an artifact alone."""

import shutil

import pytest
import torch
import torchvision
from torch import Tensor, nn

from shipway.artifact.bundle import open_artifact, write_record
from shipway.artifact.digests import sha256_of, write_sums
from shipway.artifact.errors import AlreadySealed, DigestMismatch
from shipway.export.rechoose import read_samples, rechoose
from shipway.limits import DEFAULT_BUDGET
from shipway.runtime.backends import BACKENDS
from tests.conftest import Silent


def test_the_choice_is_made_again_without_the_checkpoint(tiny, tmp_path):
    again = rechoose(tiny.path, Silent(), out=tmp_path, objective="size")
    manifest = open_artifact(again.path).manifest
    certified, kept = (each.certificate.candidates["onnx_int8"].loss for each in (tiny, again))
    assert certified is not None and certified == kept
    assert again.certificate.budget == tiny.certificate.budget == DEFAULT_BUDGET
    assert manifest.chosen == "onnx_int8"
    assert manifest.objective == "size"
    assert manifest.programs == tiny.manifest.programs
    assert manifest.checkpoint_sha256 == tiny.manifest.checkpoint_sha256


CRASHING = """
import os

from shipway.runtime.backends import BACKENDS
from shipway.runtime.backends.torch import Torch


class Crashing(Torch):
    def open(self, program, *, threads, device_index=0):
        os._exit(9)


BACKENDS.register("crashing")(Crashing())
"""


class Deformed(nn.Module):
    """Calls an operator of torchvision, which no worker imports."""

    def forward(self, pixels: Tensor) -> Tensor:
        image = pixels[..., :1].permute(0, 3, 1, 2).float()
        offset = torch.zeros(pixels.shape[0], 2, 64, 64)
        return torchvision.ops.deform_conv2d(image, offset, torch.ones(10, 1, 1, 1)).mean((2, 3))


def test_programs_that_do_not_open_are_refused_and_the_choice_is_among_the_others(
    tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr(BACKENDS, "_parts", dict(BACKENDS.all()))
    copy = shutil.copytree(tiny.path, tmp_path / "copy")
    programs = dict(tiny.manifest.programs)
    script = copy / programs["torchscript"].file
    torch.jit.save(
        torch.jit.trace(Deformed(), torch.zeros(2, 64, 64, 3, dtype=torch.uint8)), script
    )
    programs["torchscript"] = programs["torchscript"].model_copy(
        update={"sha256": sha256_of(script), "bytes": script.stat().st_size}
    )
    programs["torch_export"] = programs["torch_export"].model_copy(update={"runtime": "crashing"})
    (copy / "plugins").mkdir()
    (copy / "plugins" / "crashing_backend.py").write_text(CRASHING)
    changes = {"programs": programs, "plugins": ("crashing_backend",), "fallback": "torchscript"}
    write_record(copy / "manifest.json", tiny.manifest.model_copy(update=changes))
    (copy / "SHA256SUMS").unlink()
    write_sums(copy)

    again = rechoose(copy, Silent(), out=tmp_path / "out")
    candidates = again.certificate.candidates
    cannot = "on this host it cannot be opened or run: "
    assert candidates["torchscript"].verdict == (
        cannot + "RuntimeError: Unknown builtin op: torchvision::deform_conv2d."
    )
    assert candidates["torch_export"].verdict == cannot + "its process crashed"
    passed = {name for name, each in candidates.items() if each.passed}
    assert passed == {"onnx_fp32", "onnx_int8"}
    assert again.manifest.chosen in passed
    assert again.manifest.fallback in passed


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
