"""Which layers' quantization costs the accuracy: each one quantized alone, the rest left in fp32.

The scales, zero points and int8 weights are those of the static int8 program itself, so that the
inputs are calibrated once, not once a layer, and what is found is true of the program that is
served. From the fp32 graph and these numbers a graph is made for every layer, in which its weights
are int8's and its input passes through QuantizeLinear and DequantizeLinear; the outputs' distance
from fp32's is that layer's share of the damage. A layer's output counts for the layer that reads
it, so no rounding counts twice. What is quantized between the layers, additions and pooling, counts
for none.

The other way round, all layers in int8 and one taken back to fp32, says less: where several layers
do harm, setting any one of them right hardly shows.

N = evaluation rows, K = outputs of a row.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import helper, numpy_helper

from shipway.artifact.certificate import LayerSensitivity
from shipway.export.batches import batches
from shipway.export.served_module import FromPixels
from shipway.export.techniques import onnx_int8
from shipway.export.techniques.base import Job, Unavailable
from shipway.export.techniques.onnx_fp32 import TECHNIQUE as FP32
from shipway.export.verify import compare
from shipway.recipe import Rows
from shipway.runtime.host import available_cores

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """A layer of the int8 program, and by input what quantizing does to it."""

    node: str
    operator: str
    constants: dict[int, np.ndarray]
    """Weights and bias: what int8 makes of them, in float32."""
    activations: dict[int, tuple[np.ndarray, np.ndarray, int | None]]
    """Scale, zero point and axis."""


def layer_sensitivity(job: Job, inputs: Rows, rows: int = 16) -> list[LayerSensitivity]:
    """What each quantized layer costs by itself, the most sensitive first; see below."""
    return [found for _, found in sensitivity_by_node(job, inputs, rows)]


def sensitivity_by_node(
    job: Job, inputs: Rows, rows: int = 16
) -> list[tuple[str, LayerSensitivity]]:
    """The same with each layer's node in the prepared ONNX graph.

    On `rows` of the inputs, from the beginning to the end of them. The int8 program is
    made for the purpose if it is not there: one that was refused is the one to ask about. Raises
    Unavailable without the fp32 program, and for a module that is not for static int8.
    """
    if reason := onnx_int8.TECHNIQUE.suits(job.module):
        raise Unavailable(reason)
    source = job.programs / FP32.file
    if not source.exists():
        raise Unavailable(f"it is made from {FP32.name}, which is not there")
    with TemporaryDirectory() as folder:
        prepared = _prepare(source, Path(folder) / "prepared.onnx")
        quantized = job.programs / onnx_int8.TECHNIQUE.file
        if not quantized.exists():
            quantized = Path(folder) / quantized.name
            onnx_int8.build(job, quantized)
        layers = list(_layers(onnx.load(quantized)))
    names = _names(onnx.load(source), job)
    chosen = np.linspace(0, len(inputs) - 1, min(rows, len(inputs))).astype(int)
    arrays = tuple(each[chosen] for each in inputs.arrays)
    (batch,) = batches(arrays, job.inputs, len(chosen))
    feed = dict(zip([each.name for each in job.inputs], batch, strict=True))
    reference_NK = _run(prepared, feed)
    found = []
    for layer in layers:
        outputs_NK = _run(_with_one_quantized(prepared, layer), feed)
        agreement = compare(reference_NK, outputs_NK, len(chosen), classes=False)
        sensitivity = LayerSensitivity(
            layer=names.get(layer.node, layer.node),
            operator=layer.operator,
            relative_error=agreement.relative_error,
            sqnr_db=agreement.sqnr_db,
        )
        found.append((layer.node, sensitivity))
    return sorted(found, key=lambda each: -each[1].relative_error)


def _prepare(source: Path, prepared: Path) -> onnx.ModelProto:
    """The fp32 graph as the quantizer saw it, with its names."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logging.getLogger().setLevel(logging.ERROR)
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    return onnx.load(prepared)


def _layers(quantized: onnx.ModelProto) -> Iterator[_Layer]:
    """The heavy operations with trained weights that an int8 program quantizes."""
    graph = quantized.graph
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    producers = {node.output[0]: node for node in graph.node}
    for node in graph.node:
        if node.op_type not in HEAVY:
            continue
        weights, activations = {}, {}
        for index, name in enumerate(node.input):
            producer = producers.get(name)
            if producer is None or producer.op_type != "DequantizeLinear":
                continue
            values, scale, zero_point = (*producer.input, "")[:3]
            zero = constants.get(zero_point, np.zeros_like(constants[scale], dtype=np.int8))
            axis = next((each.i for each in producer.attribute if each.name == "axis"), 1)
            if values in constants:
                weights[index] = _dequantized(constants[values], constants[scale], zero, axis)
            else:
                activations[index] = (constants[scale], zero, axis if zero.ndim else None)
        if weights:
            yield _Layer(
                node=node.name, operator=node.op_type, constants=weights, activations=activations
            )


def _dequantized(values: np.ndarray, scale: np.ndarray, zero: np.ndarray, axis: int) -> np.ndarray:
    if scale.size > 1:
        along = [1] * values.ndim
        along[axis] = scale.size
        scale, zero = scale.reshape(along), zero.reshape(along)
    return ((values.astype(np.int64) - zero) * scale.astype(np.float64)).astype(np.float32)


def _with_one_quantized(prepared: onnx.ModelProto, layer: _Layer) -> onnx.ModelProto:
    """The fp32 graph with one layer's weights, bias and input as int8 has them."""
    model = onnx.ModelProto()
    model.CopyFrom(prepared)
    graph = model.graph
    at, node = next((i, each) for i, each in enumerate(graph.node) if each.name == layer.node)
    added = []
    for index, values in layer.constants.items():
        node.input[index] = _add(graph, f"{layer.node}_constant_{index}", values)
    for index, (scale, zero, axis) in layer.activations.items():
        name = f"{layer.node}_activation_{index}"
        parameters = (
            _add(graph, f"{name}_scale", scale),
            _add(graph, f"{name}_zero_point", zero),
        )
        for operator, source, result in (
            ("QuantizeLinear", node.input[index], f"{name}_quantized"),
            ("DequantizeLinear", f"{name}_quantized", name),
        ):
            each = helper.make_node(operator, [source, *parameters], [result])
            if axis is not None:
                each.attribute.append(helper.make_attribute("axis", axis))
            added.append(each)
        node.input[index] = name
    for each in reversed(added):
        graph.node.insert(at, each)
    return model


def _add(graph: onnx.GraphProto, name: str, values: np.ndarray) -> str:
    graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return name


def _run(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> np.ndarray:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    outputs_NK: np.ndarray = session.run(None, feed)[0]
    return outputs_NK


def _names(model: onnx.ModelProto, job: Job) -> dict[str, str]:
    """By node: the module that it came from, as the user's own code calls it."""
    inside = "module." if isinstance(job.module, FromPixels) else ""
    names = {}
    for node in model.graph.node:
        if node.op_type not in HEAVY:
            continue
        # A convolution takes the place of the normalisation that was folded into it, but its
        # weights keep their name; a matrix that was transposed loses it, but not its place.
        weight = next((each for each in node.input if each.endswith(".weight")), None)
        scopes = next(
            (
                [each.strip(" '\"") for each in found.value.strip("[]").split(",")]
                for found in node.metadata_props
                if found.key == "pkg.torch.onnx.name_scopes"
            ),
            [],
        )
        module = weight.removesuffix(".weight") if weight else "".join(scopes[-2:-1])
        names[node.name] = module.removeprefix(inside) or node.name
    return names
