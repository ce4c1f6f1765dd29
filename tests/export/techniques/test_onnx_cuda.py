"""ONNX for a GPU, in fp16."""

import numpy as np
import onnx
import onnxruntime as ort

from shipway.export.techniques import onnx_cuda


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
