"""Techniques for a GPU: skipped without one, verified like the others with one."""

import onnxruntime as ort
import pytest
import torch

from shipway.artifact.manifest import Program
from shipway.export.techniques import TECHNIQUES
from shipway.runtime.backends.onnxruntime import CUDA
from shipway.runtime.choice import unsupported_reason
from shipway.runtime.host import has_cuda
from tests.export.workbench import passes

ON_A_GPU = sorted(name for name, each in TECHNIQUES.all().items() if each.device == "cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
@pytest.mark.parametrize("name", ON_A_GPU)
def test_what_needs_a_gpu_is_skipped_with_that_reason(images, name):
    assert images.attempt(name).verdict == "skipped: this host has no CUDA device"


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs an NVIDIA GPU, and torch finds none"
)
@pytest.mark.parametrize("bench", ["images", "texts"])
@pytest.mark.parametrize("name", ON_A_GPU)
def test_what_is_for_a_gpu_comes_back_from_disk_and_agrees(request, bench, name):
    technique = TECHNIQUES.get(name)
    if technique.runtime == "onnxruntime" and CUDA not in ort.get_available_providers():
        pytest.skip("the installed ONNX Runtime has no CUDA support (install onnxruntime-gpu)")
    assert set(passes(request.getfixturevalue(bench), name)) == {technique.precision}


@pytest.mark.skipif(has_cuda(), reason="a GPU is here")
def test_a_program_for_a_gpu_does_not_fit_a_host_without_one():
    program = Program(
        file="programs/a.onnx",
        format="onnx",
        runtime="onnxruntime",
        precision="fp16",
        device="cuda",
        bytes=1,
        sha256="0" * 64,
    )
    assert unsupported_reason(program) == "there is no CUDA device"
