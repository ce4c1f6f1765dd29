"""ONNX in dynamic int8: weights per channel, activations by the range of each run."""

from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from shipway.export.techniques import applicability, register
from shipway.export.techniques.base import Job, Technique, require_program, without_warnings
from shipway.export.techniques.onnx_fp32 import TECHNIQUE as FP32
from shipway.export.techniques.onnx_int8 import requires, vnni
from shipway.export.techniques.onnx_int8_weights import round_weights


def build(job: Job, path: Path) -> None:
    """Writes the fp32 program with its matrix products quantized."""
    # onnxruntime.quantization is heavy
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    source = require_program(job, FP32)
    with without_warnings(), TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_dynamic(
            prepared,
            path,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            # Without VNNI, products are added in pairs in 16 bits, which 7-bit weights cannot
            # overflow. Most weights get 8 bits all the same, below.
            reduce_range=vnni() is None,
            # Products of two activations, as in attention, have no weights and stay in fp32.
            extra_options={"MatMulConstBOnly": True},
        )
        model = onnx.load(path)
        round_weights(model, onnx.load(prepared), in_pairs=vnni() is None)
        onnx.save(model, path)


TECHNIQUE = Technique(
    order=90,
    name="onnx_dynamic_int8",
    file="onnx_dynamic_int8.onnx",
    format="onnx",
    runtime="onnxruntime",
    precision="int8",
    quantization="dynamic; uint8 activations (range of each run), int8 weights per channel",
    dynamic=True,
    unsupported_reason=applicability.linear,
    build=build,
    requires=requires,
)
register(TECHNIQUE)
