"""Which layers lose the most accuracy in int8: each one quantized alone, the others in fp32.

The scales, zero points and int8 weights come from the static int8 program itself. So one
calibration is enough, and the result holds for the program that is served. For every layer a copy
of the fp32 graph is made with the int8 weights of that layer, and with QuantizeLinear and
DequantizeLinear before its input. The distance of the outputs from those in fp32 is the layer's
cost. The rounding of a layer's output counts for the next layer, so nothing counts twice. Additions
and pooling between the layers count for none.

The reverse, all layers in int8 and one in fp32, tells less: if several layers lose accuracy,
restoring one of them hardly changes the outputs.

N = evaluation rows, K = outputs of a row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import helper, numpy_helper

from shipway.artifact.certificate import LayerSensitivity
from shipway.artifact.measures import errors_of, spread_of
from shipway.artifact.samples import sqnr_db
from shipway.export.techniques.base import Job, without_warnings
from shipway.recipe import Rows
from shipway.runtime.batches import batches
from shipway.runtime.host import available_cores

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """A layer of the int8 program: what quantization does to each of its inputs, by index."""

    node: str
    operator: str
    constants: dict[int, np.ndarray]
    """Weights and bias, rounded to int8 and dequantized to float32."""
    activations: dict[int, tuple[np.ndarray, np.ndarray, int | None]]
    """Scale, zero point and axis."""


def compare_layers(
    job: Job, source: Path, quantized: Path, inputs: Rows, rows: int
) -> list[tuple[str, LayerSensitivity]]:
    """What quantizing each layer costs, with the layer's node in the graph; the costliest first.

    `source` is the fp32 program, `quantized` the static int8 program made from it. Uses `rows` of
    the inputs, spread over all of them.
    """
    with TemporaryDirectory() as folder:
        prepared = _prepare(source, Path(folder) / "prepared.onnx")
    layers = list(_layers(onnx.load(quantized)))
    names = _names(onnx.load(source), job)
    chosen = np.linspace(0, len(inputs) - 1, min(rows, len(inputs))).astype(int)
    arrays = tuple(array[chosen] for array in inputs.arrays)
    (batch,) = batches(arrays, job.inputs, len(chosen))
    feed = dict(zip([spec.name for spec in job.inputs], batch, strict=True))
    reference = _run(prepared, feed)
    spread = spread_of(reference, "scores")  # of whole rows: one number for all outputs together
    ranked = []
    for layer in layers:
        outputs = _run(_with_one_quantized(prepared, layer), feed)
        error, _ = errors_of(reference, outputs, "scores", spread)
        sensitivity = LayerSensitivity(
            layer=names.get(layer.node, layer.node),
            operator=layer.operator,
            relative_error=error,
            sqnr_db=sqnr_db(error),
        )
        ranked.append((layer.node, sensitivity))
    return sorted(ranked, key=lambda item: -item[1].relative_error)


def _prepare(source: Path, prepared: Path) -> onnx.ModelProto:
    """The fp32 graph with the names that the quantizer gave its nodes."""
    # onnxruntime.quantization is heavy
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with without_warnings():
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
    """The fp32 graph with the weights, bias and input of one layer quantized."""
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
    import onnxruntime as ort  # heavy

    options = ort.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    outputs: list[np.ndarray] = session.run(None, feed)
    # Integers and booleans say little about rounding; one of the outputs is of floats as a rule.
    return next((each for each in outputs if each.dtype.kind == "f"), outputs[0])


def _names(model: onnx.ModelProto, job: Job) -> dict[str, str]:
    """By node: the name of the layer in the user's own module."""
    names = {}
    for node in model.graph.node:
        if node.op_type not in HEAVY:
            continue
        # A convolution that BatchNorm was folded into has the scope of BatchNorm, but its weights
        # keep their name. A transposed matrix loses its name, but the node keeps its scope.
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
        names[node.name] = module.removeprefix(job.layer_prefix) or node.name
    return names
