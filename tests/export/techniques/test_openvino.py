"""The ONNX programs run by OpenVINO."""

import pytest

from tests.export.workbench import passes


@pytest.mark.parametrize(
    ("name", "ran"),
    [
        ("openvino_fp32", {"fp32": 4}),
        ("openvino_bf16", {"bf16": 4}),
        ("openvino_int8", {"int8": 4}),
    ],
)
def test_a_convolutional_network_comes_back_from_disk_and_agrees(images, name, ran):
    assert passes(images, name) == ran


@pytest.mark.parametrize(
    ("name", "ran"), [("openvino_fp32", {"fp32": 6}), ("openvino_bf16", {"bf16": 6})]
)
def test_a_transformer_comes_back_from_disk_and_agrees(texts, name, ran):
    assert passes(texts, name) == ran
