"""Every technique on a small convolutional network and on a small transformer, for real."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from shipway.artifact.manifest import Program
from shipway.export.techniques import (
    TECHNIQUES,
    aot_inductor_cuda,
    applicability,
    onnx_cuda,
    onnx_mixed_int8,
)
from shipway.export.techniques.aot_inductor import Autocast
from shipway.export.techniques.onnx_int8 import beside, sensitivity_by_node
from shipway.export.techniques.torchao_int8 import with_linear_in_bf16
from shipway.runtime.backends.onnxruntime import CUDA, profiled_kernels
from shipway.runtime.choice import unsupported_reason
from shipway.runtime.host import cpu_flags, has_cuda
from tests.conftest import TINY_RECIPE
from tests.export.workbench import Workbench

TINY_TEXT_RECIPE = TINY_RECIPE.with_name("tiny_text_recipe.py")
ON_A_GPU = sorted(name for name, each in TECHNIQUES.all().items() if each.device == "cuda")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Workbench:
    bench = Workbench(tmp_path_factory.mktemp("images"), TINY_RECIPE)
    assert passes(bench, "onnx_fp32") == {"fp32": 4}
    assert passes(bench, "onnx_int8") == {"int8": 4}
    return bench


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Workbench:
    bench = Workbench(tmp_path_factory.mktemp("texts"), TINY_TEXT_RECIPE)
    assert passes(bench, "onnx_fp32") == {"fp32": 6}
    assert passes(bench, "onnx_dynamic_int8") == {"int8": 6}
    return bench


def passes(bench: Workbench, name: str) -> dict[str, int]:
    """What a candidate that has to pass ran, by precision; none for fp32 on torch."""
    technique = TECHNIQUES.get(name)
    on_cpu = technique.device == "cpu"
    if technique.precision == "bf16" and on_cpu and "avx512_bf16" not in cpu_flags():
        pytest.skip("this processor has no bf16 arithmetic")
    candidate = bench.attempt(name)
    assert candidate.passed, candidate.verdict
    return candidate.kernels.ran if candidate.kernels else {}


@pytest.mark.parametrize(
    ("name", "ran"),
    [
        ("torchscript", {}),
        ("torch_export", {}),
        ("aot_inductor", {}),
        ("aot_inductor_bf16", {"bf16": 4}),
        ("pt2e_int8", {"int8": 4}),
        ("onnx_int8_average", {"int8": 4}),
        ("openvino_fp32", {"fp32": 4}),
        ("openvino_bf16", {"bf16": 4}),
        ("openvino_int8", {"int8": 4}),
    ],
)
def test_a_convolutional_network_comes_back_from_disk_and_agrees(images, name, ran):
    assert passes(images, name) == ran


@pytest.mark.parametrize(
    ("name", "ran"),
    [
        ("aot_inductor_bf16", {"bf16": 6}),
        ("pt2e_dynamic_int8", {"int8": 6}),
        ("torchao_dynamic_int8", {"int8": 6}),
        ("torchao_int8_weights", {"bf16": 6}),
        ("onnx_int8", {"int8": 8}),  # attention's two products among them
        ("openvino_fp32", {"fp32": 6}),
        ("openvino_bf16", {"bf16": 6}),
    ],
)
def test_a_transformer_comes_back_from_disk_and_agrees(texts, name, ran):
    assert passes(texts, name) == ran


def test_mixed_int8_leaves_the_costliest_layers_in_fp32(images, tmp_path, monkeypatch):
    assert "none of 4 layers" in images.attempt("onnx_int8_mixed").verdict
    monkeypatch.setattr(onnx_mixed_int8, "SHARE_NEEDED", 0.5)
    monkeypatch.setattr(onnx_mixed_int8, "COSTLY", 0.0)
    onnx_mixed_int8.build(images.job, tmp_path / "mixed.onnx")
    found = profiled_kernels(tmp_path / "mixed.onnx", ["pixels"], images.job.example)
    assert found.ran == {"int8": 2, "fp32": 2}
    costliest = [node for node, _ in sensitivity_by_node(images.job, images.job.calibration)[:2]]
    nodes = {node.name: node for node in onnx.load(tmp_path / "mixed.onnx").graph.node}
    assert not any(nodes[each].input[1].endswith("DequantizeLinear_Output") for each in costliest)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pt2e_dynamic_int8", "for models of linear layers; this one has 3 convolutions"),
        ("torchao_dynamic_int8", "for models of linear layers; this one has 3 convolutions"),
        ("onnx_dynamic_int8", "for models of linear layers; this one has 3 convolutions"),
    ],
)
def test_what_is_not_for_convolutions_says_so(images, name, reason):
    assert images.attempt(name).verdict == f"skipped: {reason}"


def test_what_is_not_for_linear_layers_says_so(texts):
    verdict = texts.attempt("pt2e_int8").verdict
    assert verdict == (
        "skipped: for convolutional models; this one has 6 linear layers and no convolution"
    )
    assert applicability.linear(nn.ReLU()) == "for models of linear layers; this one has none"


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
        pytest.skip("ONNX Runtime is here without CUDA (its package is onnxruntime-gpu)")
    assert set(passes(request.getfixturevalue(bench), name)) == {technique.precision}


def test_weights_for_a_gpu_are_in_its_precision_and_with_channels_last(images):
    job = images.job
    half = aot_inductor_cuda.with_heavy_weights_in(torch.bfloat16, job.module)
    heavy = [each for each in half.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    assert {each.weight.dtype for each in heavy} == {torch.bfloat16}
    assert all(
        each.weight.is_contiguous(memory_format=torch.channels_last)
        for each in heavy
        if isinstance(each, nn.Conv2d)
    )
    assert {each.dtype for each in job.module.parameters()} == {torch.float32}
    with torch.inference_mode():
        by_autocast, cast_before = (
            Autocast(module.eval(), "cpu", torch.bfloat16)(*job.example_tensors)
            for module in (job.module, half)
        )
    assert cast_before.dtype == torch.float32
    assert torch.equal(by_autocast, cast_before)


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


def test_every_technique_has_a_name_and_a_file_of_its_own():
    files = [each.file for each in TECHNIQUES.all().values() if not each.runs]
    assert len(set(files)) == len(files)
    for each in TECHNIQUES.all().values():
        if each.runs:
            assert TECHNIQUES.get(each.runs).file == each.file


def test_fp16_agrees_and_leaves_the_pixels_normalisation_in_fp32(images):
    """Built for a GPU; here ONNX Runtime casts it back, which is enough to compare the outputs."""
    source = images.job.programs / "onnx_fp32.onnx"
    half = onnx_cuda.in_fp16(onnx.load(source))
    (pixels,) = images.job.example
    one, other = (
        ort.InferenceSession(each, providers=["CPUExecutionProvider"]).run(None, {"pixels": pixels})
        for each in (source, half.SerializeToString())
    )
    assert np.linalg.norm(one[0] - other[0]) / np.linalg.norm(one[0]) < 0.01
    types = {each.name: each.data_type for each in half.graph.initializer}
    (normalising,) = (node for node in half.graph.node if node.op_type == "Sub")
    assert types[normalising.input[1]] == onnx.TensorProto.FLOAT
    (first, *_) = (node for node in half.graph.node if node.op_type == "Conv")
    assert types[first.input[1]] == onnx.TensorProto.FLOAT16


def test_global_pooling_becomes_one_mean(images):
    class Pooling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(1)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.pool(pixels.permute(0, 3, 1, 2).float()).flatten(1)

    from dataclasses import replace

    path = images.job.programs / "pooling.onnx"
    TECHNIQUES.get("onnx_fp32").build(replace(images.job, module=Pooling()), path)
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert operators.count("ReduceMean") == 1
    assert not {"Gather", "Range"} & set(operators)


def test_openvino_is_given_the_quantizer_of_the_pixels_and_onnx_runtime_is_not(images):
    path = images.job.programs / "onnx_int8.onnx"
    ours = [node.op_type for node in onnx.load(path).graph.node]
    theirs = [node.op_type for node in onnx.load(beside(path)).graph.node]
    assert "Cast" in theirs and "Cast" not in ours


def test_logits_are_not_rounded_to_eight_bits(images):
    model = onnx.load(images.job.programs / "onnx_int8.onnx")
    (last,) = (node for node in model.graph.node if "logits" in node.output)
    assert last.op_type == "Gemm"


def test_only_linear_layers_become_bf16():
    module = with_linear_in_bf16(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)))
    given = torch.randn(2, 4)
    assert module(given).dtype == torch.float32
    assert module[1].weight.dtype == torch.float32
    assert module[0].linear.weight.dtype == torch.bfloat16
