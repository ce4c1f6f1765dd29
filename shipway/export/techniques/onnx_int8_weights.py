"""The int8 weights of a quantized ONNX model: rounded for the least error, and, for processors that
need it, such that no sum of products overflows.

O = output channels, K = the weights of each, in the order in which ONNX Runtime multiplies them.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

LARGEST = 127
MOST_BIAS = 2**31 - 2**10
"""A float32 is this near to the largest int32."""
LARGEST_PAIR = 128
"""The most that two weights of one sign may add up to where VPMADDUBSW multiplies them with bytes
and adds the products in 16 bits: 255 x 128 < 2^15. (Intel's manual, volume 2, PMADDUBSW;
onnxruntime.ai, "Quantize ONNX models", on saturation.)"""
FEW = 64
"""Weights. With so few in a channel, a little more or less of scale fits them all by chance."""
SHARES = np.arange(0.4, 2.001, 0.02)
"""Scales that are tried, as shares of the one that makes the largest weight 127. Half of it clips
weights; with twice it no pair overflows anyway."""
COARSE, REFINED = np.arange(0.5, 2.001, 0.1), np.arange(-0.08, 0.081, 0.02)
"""With many weights the error changes smoothly: these, then around the best of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    biases: tuple[str, ...]
    """Several, if layers share the weight."""
    order: tuple[int, ...]
    """The axes of the weight, those of the output channels first."""
    in_pairs: bool
    """Whether ONNX Runtime adds its products in pairs."""


@dataclass(frozen=True, slots=True)
class _Bias:
    """What a channel adds, as an int32 whose scale is that of its inputs times its weights'."""

    exact_O: np.ndarray
    inputs_O: np.ndarray
    """The scale of the inputs."""

    @classmethod
    def read(
        cls, original: onnx.TensorProto, scale: onnx.TensorProto, weights_scale_O: np.ndarray
    ) -> "_Bias":
        scale_O = numpy_helper.to_array(scale).astype(np.float64)
        exact_O = numpy_helper.to_array(original).astype(np.float64)
        return cls(exact_O, scale_O / weights_scale_O)

    @property
    def least_O(self) -> np.ndarray:
        """The least scale of the weights with which the bias fits."""
        return np.abs(self.exact_O) / self.inputs_O / MOST_BIAS


def round_weights(model: onnx.ModelProto, fp32: onnx.ModelProto, *, in_pairs: bool) -> None:
    """Rounds the int8 weights of `model`, in place, such that their squared error is least.

    `model` is what ONNX Runtime's quantizer made of `fp32`. Its symmetric weights per channel are
    rounded, others stay as they are. With `in_pairs` no sum of two products overflows 16 bits on
    processors without VNNI.
    """
    constants = {each.name: each for each in model.graph.initializer}
    original = {each.name: each for each in fp32.graph.initializer}
    for name, layer in _layers(fp32).items():
        made = [f"{name}{end}" for end in ("_quantized", "_scale", "_zero_point")]
        if not constants.keys() >= set(made):
            continue
        quantized, scale, zero = (numpy_helper.to_array(constants[each]) for each in made)
        weight = numpy_helper.to_array(original[name]).transpose(layer.order)
        if quantized.dtype != np.int8 or scale.size != len(weight) or zero.any():
            continue
        biases = {
            bias: _Bias.read(original[bias], constants[f"{bias}_quantized_scale"], scale.ravel())
            for bias in layer.biases
            if f"{bias}_quantized" in constants
        }
        least_O = np.max([np.zeros(len(weight)), *(each.least_O for each in biases.values())], 0)
        scale_O, whole_OK = rounded(
            weight.reshape(len(weight), -1), least_O, in_pairs=in_pairs and layer.in_pairs
        )
        _put(constants[made[0]], whole_OK.reshape(weight.shape).transpose(np.argsort(layer.order)))
        _put(constants[made[1]], scale_O.reshape(scale.shape))
        for bias, each in biases.items():
            bias_scale_O = (scale_O * each.inputs_O).astype(np.float32)
            _put(constants[f"{bias}_quantized"], (each.exact_O / bias_scale_O).round())
            _put(constants[f"{bias}_quantized_scale"], bias_scale_O)


def rounded(
    weight_OK: np.ndarray, least_O: np.ndarray, *, in_pairs: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The scale of each channel, float32 (O,), and its weights in units of that, whole numbers from
    -127 to 127 (O, K): those with the least squared error of the scales that are tried, none of
    which is below `least_O`.

    With `in_pairs`, the first and second weight, the third and fourth and so on, where they have
    one sign, add up to 128 at most.
    """
    weight_OK = weight_OK.astype(np.float32)
    largest_O = np.abs(weight_OK).max(axis=1) / LARGEST
    largest_O[largest_O == 0] = 1.0
    error_O = np.full(len(weight_OK), np.inf)
    scale_O, best_OK = largest_O.copy(), np.zeros_like(weight_OK)
    few = weight_OK.shape[1] <= FEW
    for shares in (SHARES,) if few else (COARSE, REFINED):
        around_O = scale_O / largest_O if shares is REFINED else np.float32(0)
        for share in shares:
            tried_O = np.maximum(largest_O * (around_O + share), least_O).astype(np.float32)
            whole_OK = (weight_OK / tried_O[:, None]).round().clip(-LARGEST, LARGEST)
            if in_pairs:
                whole_OK = without_overflow(whole_OK)
            found_O = np.square(whole_OK * tried_O[:, None] - weight_OK).sum(axis=1)
            better_O = found_O < error_O
            error_O[better_O], scale_O[better_O] = found_O[better_O], tried_O[better_O]
            best_OK[better_O] = whole_OK[better_O]
    return scale_O, best_OK


def without_overflow(whole_OK: np.ndarray) -> np.ndarray:
    """The weights, those of a pair with too large a sum made smaller by the same amount each."""
    padded = np.pad(whole_OK, ((0, 0), (0, whole_OK.shape[1] % 2)))
    pairs = padded.reshape(len(whole_OK), -1, 2)
    excess = np.abs(pairs.sum(axis=2)) - LARGEST_PAIR
    excess[pairs[..., 0] * pairs[..., 1] <= 0] = 0
    excess = excess.clip(min=0)
    first = np.floor(excess / 2)
    pairs = pairs - np.sign(pairs) * np.stack([first, excess - first], axis=2)
    return pairs.reshape(padded.shape)[:, : whole_OK.shape[1]]


def _layers(fp32: onnx.ModelProto) -> dict[str, _Layer]:
    """The layers whose weights are constants, by the weight's name."""
    shapes = {each.name: tuple(each.dims) for each in fp32.graph.initializer}
    found: dict[str, _Layer] = {}
    for node in fp32.graph.node:
        if len(node.input) < 2 or node.input[1] not in shapes:
            continue
        weight, shape = node.input[1], shapes[node.input[1]]
        settings = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        order: tuple[int, ...]
        in_pairs = True
        if node.op_type == "Conv":
            # It multiplies the pixels of a window one after the other, the channels of each.
            order = (0, *range(2, len(shape)), 1)
            # A depthwise one has a kernel of its own, which adds in 32 bits.
            in_pairs = not (shape[1] == 1 and settings.get("group", 1) == shape[0])
        elif node.op_type == "Gemm" and settings.get("transB"):
            order = (0, 1)
        elif node.op_type in ("Gemm", "MatMul") and len(shape) == 2:
            order = (1, 0)
        else:
            continue
        before = found[weight].biases if weight in found else ()
        bias = tuple(name for name in node.input[2:3] if name in shapes)
        found[weight] = _Layer(biases=(*before, *bias), order=order, in_pairs=in_pairs)
    return found


def _put(constant: onnx.TensorProto, value: np.ndarray) -> None:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(constant.data_type)
    constant.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value, dtype), constant.name))
