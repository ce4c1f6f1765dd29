"""ONNX in static int8: calibrated on real inputs, with weights per channel, for ONNX Runtime."""

from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import numpy_helper

from shipway.artifact.certificate import LayerSensitivity
from shipway.artifact.manifest import Requirements
from shipway.export.techniques import register
from shipway.export.techniques.base import (
    Job,
    LayerRanking,
    Technique,
    heavy_layers,
    require_program,
    without_warnings,
)
from shipway.export.techniques.layer_sensitivity import compare_layers
from shipway.export.techniques.onnx_fp32 import TECHNIQUE as FP32
from shipway.export.techniques.onnx_int8_weights import round_weights
from shipway.recipe import Rows
from shipway.runtime.batches import batches
from shipway.runtime.host import cpu_flags

NAME = "onnx_int8"
FILE = f"{NAME}.onnx"
CALIBRATION_BATCH = 8
"""Rows."""
_VNNI = ("avx512_vnni", "avx_vnni")
_PRODUCTS = ["MatMul", "Gemm"]
"""The only operators quantized in a model without convolutions. Attention's mask adds minus
infinity to a sum; a range that includes it has no resolution left for anything else."""
_PREPROCESSING = ("Transpose", "Cast", "Sub", "Mul")


def build(job: Job, path: Path, *, average: bool = False) -> None:
    """Writes the quantized program, and beside it the version for runtimes without uint8 inputs.

    Ranges are the extremes over all calibration batches; with `average`, the mean of the extremes
    of each batch.
    """
    model = quantized(job, average=average)
    onnx.save(model, beside(path))
    feed_pixels_directly(model)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def beside(path: Path) -> Path:
    """Where a build writes the same model with the quantizer of the pixels still in it."""
    return path.with_suffix(".quantizer.onnx")


def quantized(job: Job, *, average: bool = False, in_fp32: Collection[str] = ()) -> onnx.ModelProto:
    """The fp32 program with quantizers; the nodes named in `in_fp32` are not quantized."""
    # onnxruntime.quantization is heavy
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    source = require_program(job, FP32)
    with without_warnings(), TemporaryDirectory() as folder:
        prepared, made = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(made),
            Calibration(job),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=None if heavy_layers(job.module)[0] else _PRODUCTS,
            per_channel=True,
            # VNNI multiplies unsigned activations with signed weights.
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Without VNNI, products are added in pairs in 16 bits, which 7-bit weights cannot
            # overflow. Most weights get 8 bits all the same, below.
            reduce_range=vnni() is None,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=[
                *(node.name for node in _preprocessing(onnx.load(prepared))),
                *in_fp32,
            ],
            extra_options={
                "CalibMovingAverage": average,
                # Sums are 32 bits wide: rounding the logits to 8 bits would save nothing.
                "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
            },
        )
        model = onnx.load(made)
        round_weights(model, onnx.load(prepared), in_pairs=vnni() is None)
    quantize_pixels_exactly(model)
    return model


def quantize_pixels_exactly(model: onnx.ModelProto) -> None:
    """Gives the quantizer of the pixels, in place, a scale and zero point without rounding.

    Pixels are 8-bit numbers already. Quantizing (pixel - mean) * k with scale k and zero point
    mean gives back the pixel exactly. This needs one integer mean and one deviation for all three
    channels; otherwise nothing is changed.
    """
    if pixels := _pixels_quantizer(model):
        quantizer, mean, k = pixels
        constants = {constant.name: constant for constant in model.graph.initializer}
        values = (np.float32(k), np.uint8(mean))
        for name, value in zip(quantizer.input[1:], values, strict=True):
            constants[name].CopyFrom(numpy_helper.from_array(np.asarray(value), name))


def feed_pixels_directly(model: onnx.ModelProto) -> bool:
    """Removes cast, normalisation and quantization of the pixels, in place, where they cancel out.

    After `quantize_pixels_exactly` the first layer can take the pixels themselves. Returns whether
    the nodes were removed.
    """
    pixels = _pixels_quantizer(model)
    if pixels is None:
        return False
    quantizer, _, _ = pixels
    graph = model.graph
    chain = {node.op_type: node for node in _preprocessing(model)}
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == quantizer.output[0]:
                node.input[index] = chain["Transpose"].output[0]
    for node in (quantizer, chain["Mul"], chain["Sub"], chain["Cast"]):
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for constant in list(graph.initializer):
        if constant.name not in used:
            graph.initializer.remove(constant)
    return True


def _pixels_quantizer(model: onnx.ModelProto) -> tuple[onnx.NodeProto, float, float] | None:
    """The quantizer of the normalised pixels, their mean, and one over their deviation.

    None if no scale and zero point quantizes the pixels exactly.
    """
    graph = model.graph
    chain = {node.op_type: node for node in _preprocessing(model)}
    if set(chain) != set(_PREPROCESSING):
        return None
    constants = {constant.name: constant for constant in graph.initializer}
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
    """This processor's flag for VNNI (8-bit products summed in 32 bits), or None."""
    return next((flag for flag in _VNNI if flag in cpu_flags()), None)


def requires() -> Requirements:
    """VNNI, if this host has it."""
    # On a processor without it, products of 8-bit weights saturate: the results are wrong.
    flag = vnni()
    return Requirements(cpu_flags=(flag,) if flag else ())


class Calibration:
    """The calibration inputs in batches, for ONNX Runtime's quantizer."""

    def __init__(self, job: Job) -> None:
        names = [spec.name for spec in job.inputs]
        self._batches: Iterator[dict[str, np.ndarray]] = (
            dict(zip(names, batch, strict=True))
            for batch in batches(job.calibration.arrays, job.inputs, CALIBRATION_BATCH)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch by input name, None after the last."""
        return next(self._batches, None)


def sensitivity_by_node(
    job: Job, inputs: Rows, rows: int = 16
) -> list[tuple[str, LayerSensitivity]]:
    """What quantizing each layer costs, and the layer's node in the prepared ONNX graph.

    The most sensitive layer comes first. Uses `rows` of the inputs, spread over all of them. Builds
    the int8 program if its file is missing: a refused one is the most interesting. Raises
    Unavailable without the fp32 program.
    """
    source = require_program(job, FP32)
    with TemporaryDirectory() as folder:
        program = job.programs / FILE
        if not program.exists():
            program = Path(folder) / FILE
            build(job, program)
        return compare_layers(job, source, program, inputs, rows)


def layer_sensitivity(job: Job, inputs: Rows, rows: int = 16) -> list[LayerSensitivity]:
    """What quantizing each layer costs, the most sensitive first; see `sensitivity_by_node`."""
    return [layer for _, layer in sensitivity_by_node(job, inputs, rows)]


RANKING = LayerRanking(program=NAME, rank=layer_sensitivity)


def _technique(name: str, calibration: str, *, average: bool) -> Technique:
    return Technique(
        packages=("onnx", "onnxscript", "onnxruntime"),
        order=70,
        name=name,
        file=f"{name}.onnx",
        format="onnx",
        runtime="onnxruntime",
        precision="int8",
        quantization=(
            f"static QDQ; uint8 activations (ranges: {calibration}), int8 weights per channel"
        ),
        build=partial(build, average=average),
        requires=requires,
        layer_ranking=RANKING,
    )


TECHNIQUE = _technique(NAME, "minimum and maximum over all batches", average=False)
register(
    TECHNIQUE,
    _technique("onnx_int8_average", "average minimum and maximum of the batches", average=True),
)
