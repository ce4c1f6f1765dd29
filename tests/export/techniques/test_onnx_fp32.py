"""ONNX in fp32."""

from dataclasses import replace

import onnx
import torch
from torch import nn

from shipway.export.techniques import TECHNIQUES
from tests.export.workbench import passes


def test_a_convolutional_network_comes_back_from_disk_and_agrees(images):
    assert passes(images, "onnx_fp32") == {"fp32": 4}


def test_a_transformer_comes_back_from_disk_and_agrees(texts):
    assert passes(texts, "onnx_fp32") == {"fp32": 6}


def test_global_pooling_becomes_one_mean(images):
    class Pooling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(1)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.pool(pixels.permute(0, 3, 1, 2).float()).flatten(1)

    path = images.job.programs / "pooling.onnx"
    TECHNIQUES.get("onnx_fp32").build(replace(images.job, module=Pooling()), path)
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert operators.count("ReduceMean") == 1
    assert not {"Gather", "Range"} & set(operators)
