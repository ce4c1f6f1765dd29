"""torchao's `quantize_` on linear layers."""

import pytest
import torch
from torch import nn

from shipway.export.techniques.onnx_int8 import vnni
from shipway.export.techniques.torchao_int8 import with_linear_in_bf16
from tests.export.workbench import passes


@pytest.mark.parametrize(
    ("name", "ran"), [("torchao_dynamic_int8", {"int8": 6}), ("torchao_int8_weights", {"bf16": 6})]
)
def test_a_transformer_comes_back_from_disk_and_agrees(texts, name, ran):
    if name == "torchao_dynamic_int8" and vnni() is None:
        # There its products are not oneDNN's, so nothing proves that they are of int8.
        assert "shows no convolution or matrix product" in texts.attempt(name).verdict
        return
    assert passes(texts, name) == ran


def test_it_is_not_for_convolutions(images):
    assert images.attempt("torchao_dynamic_int8").verdict == (
        "skipped: for models with linear layers only; this model has 3 convolutions"
    )


def test_only_linear_layers_become_bf16():
    module = with_linear_in_bf16(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)))
    given = torch.randn(2, 4)
    assert module(given).dtype == torch.float32
    assert module[1].weight.dtype == torch.float32
    assert module[0].linear.weight.dtype == torch.bfloat16
