"""Static int8 with the costliest layers in fp32."""

import onnx

from shipway.export.techniques import onnx_int8, onnx_mixed_int8
from shipway.export.techniques.onnx_int8 import sensitivity_by_node
from shipway.runtime.backends.onnxruntime import profiled_kernels


def test_mixed_int8_leaves_the_costliest_layers_in_fp32(images, tmp_path, monkeypatch):
    assert "none of the 4 layers" in images.attempt("onnx_int8_mixed").verdict
    monkeypatch.setattr(onnx_mixed_int8, "SHARE_NEEDED", 0.5)
    monkeypatch.setattr(onnx_mixed_int8, "COSTLY", 0.0)
    onnx_mixed_int8.build(images.job, tmp_path / "mixed.onnx")
    found = profiled_kernels(tmp_path / "mixed.onnx", ["pixels"], images.job.example)
    assert found.ran == {"int8": 2, "fp32": 2}
    costliest = [node for node, _ in sensitivity_by_node(images.job, images.job.calibration)[:2]]
    nodes = {node.name: node for node in onnx.load(tmp_path / "mixed.onnx").graph.node}
    assert not any(nodes[each].input[1].endswith("DequantizeLinear_Output") for each in costliest)


def test_a_layer_between_two_in_int8_can_stay_in_fp32(images, tmp_path):
    images.attempt("onnx_int8")
    layers = [node for node, _ in sensitivity_by_node(images.job, images.job.calibration)]
    for node in layers:
        path = tmp_path / "mixed.onnx"
        onnx.save(onnx_int8.quantized(images.job, in_fp32=[node]), path)
        found = profiled_kernels(path, ["pixels"], images.job.example)
        assert found.ran == {"int8": len(layers) - 1, "fp32": 1}, node
