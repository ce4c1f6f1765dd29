"""Weights in int8: rounded for the least error, and never such that a sum overflows."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import numpy_helper

from shipway.export.techniques.onnx_int8_weights import (
    LARGEST,
    LARGEST_PAIR,
    round_weights,
    rounded,
    without_overflow,
)

whole = arrays.arrays(
    np.float32, arrays.array_shapes(min_dims=2, max_dims=2), elements=st.integers(-127, 127)
)
DICE = np.random.default_rng(0)


def sums_of_pairs(whole_OK: np.ndarray) -> np.ndarray:
    """The sums that VPMADDUBSW would make of bytes of 255: of each sign, by pair."""
    padded = np.pad(whole_OK, ((0, 0), (0, whole_OK.shape[1] % 2))).reshape(len(whole_OK), -1, 2)
    return np.stack([padded.clip(min=0).sum(2), (-padded).clip(min=0).sum(2)])


@given(whole)
def test_no_pair_is_too_large_and_no_weight_grows_or_changes_its_sign(whole_OK):
    found = without_overflow(whole_OK)
    assert sums_of_pairs(found).max() <= LARGEST_PAIR
    assert (np.abs(found) <= np.abs(whole_OK)).all() and (found * whole_OK >= 0).all()
    assert (found == np.round(found)).all()
    fine = np.repeat((sums_of_pairs(whole_OK) <= LARGEST_PAIR).all(0), 2, axis=1)
    fine = fine[:, : whole_OK.shape[1]]
    assert (found[fine] == whole_OK[fine]).all()


@pytest.mark.parametrize("in_pairs", [False, True])
@pytest.mark.parametrize("columns", [1, 9, 27, 500])
def test_the_error_is_no_larger_than_that_of_the_largest_weight_or_of_seven_bits(columns, in_pairs):
    weight_OK = DICE.standard_t(3, (8, columns)).astype(np.float32)  # with outliers
    scale_O, whole_OK = rounded(weight_OK, np.zeros(8), in_pairs=in_pairs)
    assert np.abs(whole_OK).max() <= LARGEST and (whole_OK == whole_OK.round()).all()
    if in_pairs:
        assert sums_of_pairs(whole_OK).max() <= LARGEST_PAIR
    plain_O = np.abs(weight_OK).max(1) / (63 if in_pairs else 127)

    def error(scale_O: np.ndarray, whole_OK: np.ndarray) -> np.ndarray:
        return np.square(scale_O[:, None] * whole_OK - weight_OK).sum(1)

    plain = error(plain_O, (weight_OK / plain_O[:, None]).round())
    assert (error(scale_O, whole_OK) <= plain * 1.001).all()


def test_a_channel_without_weights_is_zero_and_no_scale_is_below_the_least():
    weight_OK = np.array([[0.0, 0.0, 0.0], [1e-8, -1e-9, 0.0]])
    scale_O, whole_OK = rounded(weight_OK, np.array([0.0, 1e-3]), in_pairs=True)
    assert (whole_OK == 0).all() and scale_O[0] > 0 and scale_O[1] == pytest.approx(1e-3)


def graph(nodes, constants, outputs=("y",)) -> onnx.ModelProto:
    made = onnx.helper.make_graph(
        nodes,
        "one",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["B", 4])],
        [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in outputs
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)])


def quantizers(weight: str, input_scale: float, biases: dict[str, np.ndarray], fp32: np.ndarray):
    """What ONNX Runtime's quantizer adds for a weight of Gemm and its biases."""
    scale_O = np.abs(fp32).max(0) / 127
    return {
        f"{weight}_quantized": (fp32 / scale_O).round().astype(np.int8),
        f"{weight}_scale": scale_O.astype(np.float32),
        f"{weight}_zero_point": np.zeros(len(scale_O), np.int8),
        **{
            f"{name}_quantized": (bias / scale_O / input_scale).round().astype(np.int32)
            for name, bias in biases.items()
        },
        **{
            f"{name}_quantized_scale": (scale_O * input_scale).astype(np.float32) for name in biases
        },
    }


def test_the_biases_of_layers_that_share_a_weight_keep_their_values():
    fp32 = DICE.standard_t(2, (4, 3)).astype(np.float32)
    biases = {name: DICE.normal(size=3).astype(np.float32) for name in ("b", "c")}
    nodes = [
        onnx.helper.make_node("Gemm", ["x", "w", name], [f"y{name}"], name=name) for name in biases
    ]
    original = graph(nodes, {"w": fp32, **biases}, ("yb", "yc"))
    model = graph(nodes, quantizers("w", 0.01, biases, fp32), ("yb", "yc"))
    before = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    round_weights(model, original, in_pairs=True)
    after = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    assert (after["w_scale"] != before["w_scale"]).any()
    for name, bias in biases.items():
        assert after[f"{name}_quantized"].dtype == np.int32
        found = after[f"{name}_quantized"] * after[f"{name}_quantized_scale"]
        assert found == pytest.approx(bias, abs=1e-2)
        ratio = after[f"{name}_quantized_scale"] / after["w_scale"]
        assert ratio == pytest.approx(0.01, rel=1e-5)  # the inputs' scale is what it was


def test_a_bias_that_is_huge_beside_its_weights_is_not_cut_off():
    """As of a channel that batch normalisation has nearly switched off."""
    fp32 = np.full((4, 1), 1e-9, np.float32)
    biases = {"b": np.array([3.0], np.float32)}
    nodes = [onnx.helper.make_node("Gemm", ["x", "w", "b"], ["y"])]
    model = graph(nodes, quantizers("w", 0.01, {"b": np.array([0.0])}, fp32))
    round_weights(model, graph(nodes, {"w": fp32, **biases}), in_pairs=False)
    after = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    assert after["b_quantized"] * after["b_quantized_scale"] == pytest.approx(3.0, rel=1e-6)


@pytest.mark.parametrize("changed", ["per tensor", "unsigned", "not around zero"])
def test_weights_of_other_kinds_stay_as_they_are(changed):
    fp32 = DICE.standard_t(2, (4, 3)).astype(np.float32)
    constants = quantizers("w", 0.01, {}, fp32)
    if changed == "per tensor":
        constants["w_scale"] = np.float32(0.1)
    if changed == "unsigned":
        constants["w_quantized"] = constants["w_quantized"].astype(np.uint8)
    if changed == "not around zero":
        constants["w_zero_point"] = np.ones(3, np.int8)
    nodes = [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = graph(nodes, constants)
    before = model.SerializeToString(deterministic=True)
    round_weights(model, graph(nodes, {"w": fp32}), in_pairs=True)
    assert model.SerializeToString(deterministic=True) == before
