"""ONNX in static int8: calibrated on real inputs, weights per channel, run by ONNX Runtime."""

import logging
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import numpy_helper

from shipway.artifact.manifest import Requirements
from shipway.export.batches import batches
from shipway.export.techniques import register
from shipway.export.techniques.base import Job, Technique, Unavailable, heavy_layers
from shipway.export.techniques.onnx_fp32 import TECHNIQUE as FP32
from shipway.runtime.host import cpu_flags

CALIBRATION_BATCH = 8
_VNNI = ("avx512_vnni", "avx_vnni")
_PRODUCTS = ["MatMul", "Gemm"]
"""All that is quantized without convolutions: attention's mask adds minus infinity to a sum, and a
range that reaches so far tells nothing else apart."""
_PREPROCESSING = ("Transpose", "Cast", "Sub", "Mul")


def build(job: Job, path: Path, *, average: bool = False) -> None:
    """Ranges are the extremes of all calibration batches, or the average batch's extremes."""
    model = quantized(job, average=average)
    onnx.save(model, beside(path))
    feed_pixels_directly(model)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def beside(path: Path) -> Path:
    """Where a build leaves the same model with the quantizer of its pixels still in it."""
    return path.with_suffix(".quantizer.onnx")


def quantized(job: Job, *, average: bool = False, in_fp32: Collection[str] = ()) -> onnx.ModelProto:
    """The fp32 program with quantizers in it; the nodes named by `in_fp32` are left as they are."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    source = job.programs / FP32.file
    if not source.exists():
        raise Unavailable(f"it is made from {FP32.name}, which is not there")
    logging.getLogger().setLevel(logging.ERROR)  # the quantizer advises what is done just here
    with TemporaryDirectory() as folder:
        prepared, made = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(made),
            Calibration(job),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=None if heavy_layers(job.module)[0] else _PRODUCTS,
            per_channel=True,
            # Unsigned activations and signed weights is the pair that VNNI multiplies.
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Without VNNI products of 8-bit weights saturate 16 bits; of 7-bit ones they do not.
            reduce_range=vnni() is None,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=[
                *(node.name for node in _preprocessing(onnx.load(prepared))),
                *in_fp32,
            ],
            extra_options={
                "CalibMovingAverage": average,
                # Products are summed in 32 bits: rounding the logits to 8 would save nothing.
                "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
            },
        )
        model = onnx.load(made)
    quantize_pixels_exactly(model)
    return model


def quantize_pixels_exactly(model: onnx.ModelProto) -> None:
    """Gives the pixels' quantizer the scale and zero point that lose nothing, where there are any.

    Pixels are 8 bits already. Quantizing (pixel - mean) * k with scale k and zero point mean gives
    back the pixel, exactly. That needs one integer mean and one deviation for all three channels.
    """
    if found := _pixels_quantizer(model):
        quantizer, mean, k = found
        constants = {each.name: each for each in model.graph.initializer}
        values = (np.float32(k), np.uint8(mean))
        for name, value in zip(quantizer.input[1:], values, strict=True):
            constants[name].CopyFrom(numpy_helper.from_array(np.asarray(value), name))


def feed_pixels_directly(model: onnx.ModelProto) -> bool:
    """Takes cast, normalisation and quantization of the pixels out, where they cancel.

    After quantize_pixels_exactly the first layer can be given the pixels as they are. Returns
    whether it was done.
    """
    found = _pixels_quantizer(model)
    if found is None:
        return False
    quantizer, _, _ = found
    graph = model.graph
    chain = {node.op_type: node for node in _preprocessing(model)}
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == quantizer.output[0]:
                node.input[index] = chain["Transpose"].output[0]
    for node in (quantizer, chain["Mul"], chain["Sub"], chain["Cast"]):
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for constant in [each for each in graph.initializer if each.name not in used]:
        graph.initializer.remove(constant)
    return True


def _pixels_quantizer(model: onnx.ModelProto) -> tuple[onnx.NodeProto, float, float] | None:
    """The quantizer of the normalised pixels, their mean and one over their deviation.

    None where the pixels are not quantized exactly by any scale and zero point.
    """
    graph = model.graph
    chain = {node.op_type: node for node in _preprocessing(model)}
    if set(chain) != set(_PREPROCESSING):
        return None
    constants = {each.name: each for each in graph.initializer}
    try:
        mean = numpy_helper.to_array(constants[chain["Sub"].input[1]]).ravel()
        k = numpy_helper.to_array(constants[chain["Mul"].input[1]]).ravel()
    except KeyError:
        return None
    if np.ptp(mean) or np.ptp(k) or mean[0] != round(mean[0]) or not 0 <= mean[0] <= 255:
        return None
    readers = [node for node in graph.node if chain["Mul"].output[0] in node.input]
    if [node.op_type for node in readers] != ["QuantizeLinear"]:
        return None
    return readers[0], float(mean[0]), float(k[0])


def _preprocessing(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes between the input and the first layer, which wire.py put there."""
    reached, nodes = {model.graph.input[0].name}, []
    for node in model.graph.node:
        if node.op_type in _PREPROCESSING and node.input[0] in reached:
            reached.add(node.output[0])
            nodes.append(node)
    return nodes


def vnni() -> str | None:
    """The processor's flag for instructions that multiply and add 8-bit numbers in 32 bits."""
    return next((flag for flag in _VNNI if flag in cpu_flags()), None)


def requires() -> Requirements:
    # 8-bit weights give other, wrong results on a processor whose products saturate.
    flag = vnni()
    return Requirements(cpu_flags=(flag,) if flag else ())


class Calibration:
    """The calibration inputs, a few at a time, as ONNX Runtime asks for them."""

    def __init__(self, job: Job) -> None:
        names = [each.name for each in job.inputs]
        self._batches: Iterator[dict[str, np.ndarray]] = (
            dict(zip(names, batch, strict=True))
            for batch in batches(job.calibration.arrays, job.inputs, CALIBRATION_BATCH)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def _technique(name: str, calibration: str, *, average: bool) -> Technique:
    return Technique(
        order=70,
        name=name,
        file=f"{name}.onnx",
        format="onnx",
        runtime="onnxruntime",
        precision="int8",
        quantization=f"static QDQ, uint8 activations by {calibration}, int8 weights per channel",
        build=partial(build, average=average),
        requires=requires,
    )


TECHNIQUE = _technique("onnx_int8", "the extremes of all batches", average=False)
register(
    TECHNIQUE,
    _technique("onnx_int8_average", "the average batch's extremes", average=True),
)
