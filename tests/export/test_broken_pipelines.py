"""Pipelines broken on purpose, each in a way that happens: built for real, and every one refused.

Each is a technique like any other; only its `build` does something wrong. What it makes goes
through the verification that an export runs.
"""

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from shipway.export.techniques import TECHNIQUES
from shipway.export.techniques.aot_inductor import compile_package
from shipway.export.techniques.base import Job
from shipway.export.techniques.pt2e_int8 import quantized
from shipway.recipe import Rows
from tests.conftest import TINY_RECIPE
from tests.export.workbench import Workbench

LARGE = 1e6
"""What the second layer, and with it the logits, is multiplied with: fp16 ends at 65,504."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Workbench:
    """The tiny network with activations in the hundred thousands, which fp16 cannot hold."""
    folder = tmp_path_factory.mktemp("broken")
    recipe = folder / "large_recipe.py"
    text = TINY_RECIPE.read_text().replace("ReLU6", "ReLU").replace("shipway-tiny", "shipway-large")
    saving = "    torch.save(Tiny().state_dict(), content)"
    assert saving in text
    recipe.write_text(
        text.replace(
            saving,
            f"""    state = Tiny().state_dict()
    for name in ("features.3.weight", "features.3.bias", "features.5.bias"):
        state[name] *= {LARGE}
    state["classifier.bias"] *= 0
    torch.save(state, content)""",
        )
    )
    made = Workbench(folder, recipe)
    assert made.attempt("onnx_fp32").passed
    return made


@pytest.fixture
def verdict_on(bench, monkeypatch) -> Callable[..., str]:
    def verdict(name: str, build: Callable[[Job, Path], None], **changes: Any) -> str:
        file = f"broken{Path(TECHNIQUES.get(name).file).suffix}"
        technique = replace(TECHNIQUES.get(name), name="broken", file=file, build=build, **changes)
        monkeypatch.setitem(TECHNIQUES._parts, "broken", technique)
        candidate = bench.attempt("broken")
        assert not candidate.passed
        assert not (bench.job.programs / file).exists(), "nothing refused is left to be served"
        return candidate.verdict

    return verdict


def of_another(module: nn.Module, name: str = "torchscript") -> Callable[[Job, Path], None]:
    """An honest build, of the wrong module."""
    return lambda job, path: TECHNIQUES.get(name).build(replace(job, module=module.eval()), path)


class Around(nn.Module):
    """The module with its inputs spoiled, or its outputs."""

    def __init__(
        self,
        module: nn.Module,
        before: Callable[[Tensor], Tensor] = lambda pixels: pixels,
        after: Callable[[Tensor], Tensor] = lambda logits: logits,
    ) -> None:
        super().__init__()
        self.module, self.before, self.after = module, before, after

    def forward(self, pixels: Tensor) -> Tensor:
        return self.after(self.module(self.before(pixels)))


def test_the_same_pipelines_pass_when_nothing_is_broken(bench):
    for name in ("torchscript", "onnx_int8"):
        candidate = bench.attempt(name)
        assert candidate.passed, candidate.verdict


def test_aot_inductor_int8_without_freezing(verdict_on):
    """It computes in fp32 from int8 weights, and its outputs are those of the frozen one."""

    def build(job: Job, path: Path) -> None:
        compile_package(quantized(job, dynamic=False), path, freezing=False)

    assert verdict_on("pt2e_int8", build) == (
        "it claims int8, but of its 3 convolutions and matrix products, 3 ran in fp32 "
        "(oneDNN's log)"
    )


def test_int8_weights_with_fp32_arithmetic(verdict_on):
    def build(job: Job, path: Path) -> None:
        onnx.save(with_int8_weights(onnx.load(job.programs / "onnx_fp32.onnx")), path)

    assert verdict_on("onnx_int8", build) == (
        "it claims int8, but of its 4 convolutions and matrix products, 4 ran in fp32 "
        "(ONNX Runtime's profile)"
    )


def with_int8_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Smaller on disk and no faster: weights are dequantized, activations never quantized."""
    constants = {each.name: each for each in model.graph.initializer}
    for node in [each for each in model.graph.node if each.op_type in ("Conv", "Gemm")]:
        name = node.input[1]
        weights = numpy_helper.to_array(constants[name])
        scale = np.float32(np.abs(weights).max() / 127)
        rounded = np.round(weights / scale).astype(np.int8)
        constants[name].CopyFrom(numpy_helper.from_array(rounded, f"{name}_int8"))
        model.graph.initializer.append(numpy_helper.from_array(np.array(scale), f"{name}_scale"))
        inputs = [f"{name}_int8", f"{name}_scale"]
        model.graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [name]))
    return model


def test_a_wrong_calibration_range(verdict_on):
    """Calibrated on grey pictures, so that everything brighter or darker is cut off."""

    def build(job: Job, path: Path) -> None:
        grey = Rows(tuple(np.clip(each, 120, 135) for each in job.calibration.arrays))
        TECHNIQUES.get("onnx_int8").build(replace(job, calibration=grey), path)

    reason = verdict_on("onnx_int8", build)
    assert reason.startswith("at batch 1 its outputs have a relative error of ")
    assert ", more than 0.3: in row " in reason


def test_swapped_channels(bench, verdict_on):
    swapped = Around(bench.job.module, before=lambda pixels: pixels.flip(3))
    reason = verdict_on("torchscript", of_another(swapped))
    assert reason.startswith("at batch 1 its outputs have a relative error of")
    assert reason.endswith(
        "its outputs are right for channels in the order blue, green, red, so it expects that order"
    )


def test_a_dropped_layer(bench, verdict_on):
    module = deepcopy(bench.job.module)
    module.module.features[5] = nn.Identity()
    for name, layers in (("torchscript", 3), ("onnx_fp32", 4)):
        reason = verdict_on(name, of_another(module, name))
        assert f"of the {layers} convolutions and matrix products that eager runs" in reason


def test_a_stale_program(bench, verdict_on):
    """Made from the weights of an earlier training run."""
    module = deepcopy(bench.job.module)
    torch.manual_seed(1)
    for weights in module.module.parameters():
        weights.data += 0.01 * weights.data.std() * torch.randn_like(weights)
    for name in ("torchscript", "onnx_fp32"):
        reason = verdict_on(name, of_another(module, name))
        assert re.search(r": in row 0, number \d+ is -?\d+ and eager's is -?\d+$", reason)


def test_a_specialised_batch_axis(verdict_on):
    def build(job: Job, path: Path) -> None:
        fixed = tuple(
            each.model_copy(update={"shape": (2, *each.shape[1:])}) for each in job.inputs
        )
        TECHNIQUES.get("onnx_fp32").build(replace(job, inputs=fixed), path)

    reason = verdict_on("onnx_fp32", build)
    assert "Got invalid dimensions for input: pixels" in reason


def test_an_overflow_in_fp16(bench, verdict_on):
    half = Around(
        deepcopy(bench.job.module.module).half(),
        before=lambda pixels: ((pixels.permute(0, 3, 1, 2).float() - 127) / 128).half(),
        after=lambda logits: logits.float(),
    )
    reason = verdict_on("torchscript", of_another(half), precision="fp16")
    assert reason.startswith("at batch 1 its outputs have numbers that are not finite")


def test_rows_that_come_back_in_another_order(bench, verdict_on):
    reversed_rows = Around(bench.job.module, after=lambda logits: logits.flip(0))
    reason = verdict_on("torchscript", of_another(reversed_rows))
    assert reason.startswith("at batch 2 its outputs have a relative error of"), (
        "a lone row is where it was"
    )
    assert "its rows come back in another order" in reason


def test_dropout_that_was_left_on(bench, verdict_on):
    def build(job: Job, path: Path) -> None:
        module: Any = deepcopy(job.module)
        module.module.dropout.train()
        torch.jit.save(torch.jit.trace(module, job.example_tensors, check_trace=False), path)

    assert "such as dropout, is active" in verdict_on("torchscript", build)


def test_a_file_cut_short(verdict_on):
    def build(job: Job, path: Path) -> None:
        whole = (job.programs / "onnx_fp32.onnx").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])

    assert "InvalidProtobuf" in verdict_on("onnx_fp32", build)
