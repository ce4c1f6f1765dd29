"""Static int8, except for the few layers that lose the most: these stay in fp32."""

from pathlib import Path

import onnx

from shipway.export.techniques import applicability, onnx_int8, register
from shipway.export.techniques.base import SHARE_NEEDED, Job, Technique, Unavailable

COSTLY = 0.03
"""A layer is costly if int8 in this layer alone gives a larger relative error (0.03 is 30 dB). The
errors of fifty such layers add up to 0.2; most layers of our networks cost 0.002 to 0.02."""


def build(job: Job, path: Path) -> None:
    """Writes the int8 program with at most a tenth of its layers left in fp32."""
    layers = onnx_int8.sensitivity_by_node(job, job.calibration)
    most = int((1 - SHARE_NEEDED) * len(layers))
    costly = [node for node, layer in layers if layer.relative_error > COSTLY][:most]
    if not costly:
        raise Unavailable(
            f"none of the {len(layers)} layers both has an error above {COSTLY:.0%} and can "
            f"stay in fp32, so the program would be the same as {onnx_int8.TECHNIQUE.name}"
        )
    model = onnx_int8.quantized(job, in_fp32=costly)
    onnx_int8.feed_pixels_directly(model)
    onnx.checker.check_model(model)
    onnx.save(model, path)


TECHNIQUE = Technique(
    order=80,
    name="onnx_int8_mixed",
    file="onnx_int8_mixed.onnx",
    format="onnx",
    runtime="onnxruntime",
    precision="int8",
    quantization=(
        f"{onnx_int8.TECHNIQUE.quantization}; the layers with the largest errors in fp32"
    ),
    unsupported_reason=applicability.convolutional,
    build=build,
    requires=onnx_int8.requires,
    layer_ranking=onnx_int8.RANKING,
)
register(TECHNIQUE)
