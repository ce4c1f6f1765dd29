"""Which layer's quantization does the damage: found where it was put."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shipway.export.techniques import onnx_fp32, onnx_int8
from shipway.export.techniques.base import Job, Unavailable
from shipway.export.techniques.onnx_int8 import layer_sensitivity
from shipway.export.techniques.onnx_int8_weights import round_weights
from shipway.recipe import Axis, Rows, TensorSpec

BATCH = Axis(name="batch", max=32)


class Mixed(nn.Module):
    """Convolutions, a product over positions (ONNX MatMul) and one over rows (Gemm)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2), nn.BatchNorm2d(16))
        self.middle = nn.Conv2d(16, 16, 3)
        self.last = nn.Conv2d(16, 16, 3)
        self.positions = nn.Linear(16, 24)
        self.head = nn.Linear(24, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = self.last(self.middle(x).relu()).relu()
        x = self.positions(x.flatten(2).transpose(1, 2)).relu()
        logits: Tensor = self.head(x.mean(1))
        return logits


def rows(seed: int, count: int) -> Rows:
    values = np.random.default_rng(seed).normal(size=(count, 3, 16, 16))
    return Rows((values.astype(np.float32),))


def job_for(module: nn.Module, folder) -> Job:
    """With its fp32 program made."""
    calibration = rows(0, 32)
    job = Job(
        module=module.eval(),
        example=(calibration.arrays[0][:2],),
        calibration=calibration,
        inputs=(TensorSpec(name="image", dtype="float32", shape=(BATCH, 3, 16, 16)),),
        outputs=("logits",),
        programs=folder,
    )
    onnx_fp32.build(job, folder / onnx_fp32.TECHNIQUE.file)
    return job


@pytest.fixture
def mixed() -> Mixed:
    torch.manual_seed(0)
    return Mixed()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """With both programs made, of a network that is not spoiled."""
    torch.manual_seed(0)
    job = job_for(Mixed(), tmp_path_factory.mktemp("programs"))
    onnx_int8.build(job, job.programs / onnx_int8.TECHNIQUE.file)
    return job


def spoil(network: Mixed, layer: str) -> None:
    """Makes one layer's input lopsided: one channel thousands of times as large as the others.

    Its weights undo it, so that fp32 computes what it did before; but a single scale for the whole
    input leaves no steps for the other channels.
    """
    pairs: dict[str, tuple[Any, Any]] = {
        "last": (network.middle, network.last),
        "positions": (network.last, network.positions),
    }
    before, after = pairs[layer]
    with torch.no_grad():
        before.weight[0] *= 3000
        before.bias[0] *= 3000
        after.weight[:, 0] /= 3000


@pytest.mark.parametrize("layer", ["last", "positions"])
def test_the_layer_with_the_lopsided_input_is_the_worst(mixed, tmp_path, layer):
    spoil(mixed, layer)
    found = layer_sensitivity(job_for(mixed, tmp_path), rows(1, 40))
    assert found[0].layer == layer
    assert found[0].relative_error > 5 * found[1].relative_error


def test_every_heavy_layer_is_called_as_the_users_code_calls_it(job):
    found = layer_sensitivity(job, rows(1, 40))
    operators = {each.layer: each.operator for each in found}
    assert operators == {
        "stem.0": "Conv",
        "middle": "Conv",
        "last": "Conv",
        "positions": "MatMul",
        "head": "Gemm",
    }
    errors = [each.relative_error for each in found]
    assert errors == sorted(errors, reverse=True)
    assert all(error > 0 for error in errors)
    assert found[0].sqnr_db == pytest.approx(-20 * np.log10(errors[0]))


def test_one_layer_alone_is_what_the_quantizer_itself_makes_of_it(mixed, tmp_path):
    """An independent way: ONNX Runtime's own quantizer, told to quantize that one node."""
    import onnx
    import onnxruntime as ort
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    spoil(mixed, "last")
    job = job_for(mixed, tmp_path)
    evaluation = rows(1, 16)
    ours = {each.layer: each for each in layer_sensitivity(job, evaluation)}
    fp32, alone = tmp_path / "prepared.onnx", tmp_path / "alone.onnx"
    quant_pre_process(str(job.programs / "onnx_fp32.onnx"), str(fp32), skip_symbolic_shape=True)
    node = next(each for each in onnx.load(fp32).graph.node if "last.weight" in each.input)
    quantize_static(
        str(fp32),
        str(alone),
        onnx_int8.Calibration(job),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=[node.name],
        # Its output counts for the layer that reads it.
        extra_options={"OpTypesToExcludeOutputQuantization": ["Conv"]},
    )
    rounded = onnx.load(alone)
    round_weights(rounded, onnx.load(fp32), in_pairs=onnx_int8.vnni() is None)
    onnx.save(rounded, alone)
    reference, outputs = (
        ort.InferenceSession(path).run(None, {"image": evaluation.arrays[0]})[0]
        for path in (fp32, alone)
    )
    spread = np.linalg.norm(reference - reference.mean(axis=0))
    error = np.linalg.norm(outputs - reference) / spread
    assert ours["last"].relative_error == pytest.approx(error, rel=0.02)


def test_it_asks_the_int8_program_that_is_there(job, monkeypatch):
    monkeypatch.setattr(onnx_int8, "build", None)  # not made again
    assert len(layer_sensitivity(job, rows(1, 16))) == 5


def test_it_reads_rows_from_all_over_the_evaluation_inputs(job):
    evaluation = rows(1, 40)
    silent = evaluation.arrays[0].copy()
    silent[1:39] = 0  # neither the first two rows nor the last two would do
    found = layer_sensitivity(job, Rows((silent,)), rows=2)
    expected = layer_sensitivity(job, Rows((evaluation.arrays[0][[0, 39]],)), rows=2)
    assert found == expected


def test_fewer_rows_than_asked_for_are_enough(job):
    assert len(layer_sensitivity(job, rows(1, 3))) == 5


def test_without_the_fp32_program_there_is_nothing_to_ask(job, tmp_path):
    job = replace(job, programs=tmp_path)
    with pytest.raises(Unavailable, match="onnx_fp32, which is missing"):
        layer_sensitivity(job, rows(1, 16))
