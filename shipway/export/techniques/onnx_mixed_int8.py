"""Static int8 but for the few layers that it costs most in, which stay in fp32."""

from pathlib import Path

import onnx

from shipway.export.kernels import SHARE_NEEDED
from shipway.export.sensitivity import sensitivity_by_node
from shipway.export.techniques import applicability as suits
from shipway.export.techniques import onnx_int8, register
from shipway.export.techniques.base import Job, Technique, Unavailable

COSTLY = 0.03
"""Relative error of the outputs with that layer alone in int8: 30 dB. The errors of fifty such
layers add up to 0.2, as squares; most layers of the networks here cost 0.002 to 0.02."""


def build(job: Job, path: Path) -> None:
    layers = sensitivity_by_node(job, job.calibration)
    most = int((1 - SHARE_NEEDED) * len(layers))
    costly = [node for node, each in layers if each.relative_error > COSTLY][:most]
    if not costly:
        raise Unavailable(
            f"of {len(layers)} layers none that may stay in fp32 costs more than {COSTLY:.0%}; "
            f"it would be {onnx_int8.TECHNIQUE.name}"
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
    quantization=f"{onnx_int8.TECHNIQUE.quantization}; the layers that cost most in fp32",
    suits=suits.convolutional,
    build=build,
    requires=onnx_int8.requires,
)
register(TECHNIQUE)
