"""ONNX in static int8."""

import onnx

from shipway.export.techniques.onnx_int8 import beside
from tests.export.workbench import passes


def test_a_convolutional_network_comes_back_from_disk_and_agrees(images):
    assert passes(images, "onnx_int8_average") == {"int8": 4}


def test_a_transformer_comes_back_from_disk_and_agrees(texts):
    assert passes(texts, "onnx_int8") == {"int8": 8}  # attention's two products among them


def test_openvino_is_given_the_quantizer_of_the_pixels_and_onnx_runtime_is_not(images):
    path = images.job.programs / "onnx_int8.onnx"
    ours = [node.op_type for node in onnx.load(path).graph.node]
    theirs = [node.op_type for node in onnx.load(beside(path)).graph.node]
    assert "Cast" in theirs and "Cast" not in ours


def test_logits_are_not_rounded_to_eight_bits(images):
    model = onnx.load(images.job.programs / "onnx_int8.onnx")
    (last,) = (node for node in model.graph.node if "logits" in node.output)
    assert last.op_type == "Gemm"
