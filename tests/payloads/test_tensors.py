import io
import tracemalloc

import numpy as np
import pytest

from shipway.payloads.errors import BadRequest, BadTensor, TooManyRows
from shipway.payloads.request import MAX_ROWS
from shipway.payloads.tensors import (
    as_array,
    check_finite,
    check_shape,
    check_together,
    from_npy,
)
from shipway.recipe import Axis, TensorSpec

BATCH = Axis(name="batch", max=4)
TIME = Axis(name="time", min=2, max=5)


def spec(dtype: str = "float32", *shape: int | Axis, name: str = "x") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=(BATCH, *shape))


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("shape", [(1, 2, 3), (9, 5, 3), (MAX_ROWS, 2, 3)])
def test_a_shape_within_its_axes_is_accepted(shape):
    check_shape(shape, spec("float32", TIME, 3))


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 6, 3), (1, 2, 4), (1, 2), (1, 2, 3, 1), ()])
def test_a_shape_outside_its_axes_is_refused_with_what_the_model_takes(shape):
    with pytest.raises(BadTensor, match=r"this model takes \[rows, 2 to 5, 3\]"):
        check_shape(shape, spec("float32", TIME, 3))


def test_no_rows_and_too_many_rows_are_refused():
    with pytest.raises(BadRequest, match="empty"):
        check_shape((0, 2, 3), spec("float32", TIME, 3))
    with pytest.raises(TooManyRows):
        check_shape((MAX_ROWS + 1, 2, 3), spec("float32", TIME, 3))


def test_inputs_must_agree_in_rows_and_in_axes_that_share_a_name():
    both = (spec("float32", TIME), spec("int64", TIME, name="y"))
    check_together((np.zeros((2, 3)), np.zeros((2, 3))), both)
    with pytest.raises(BadTensor, match="number of rows"):
        check_together((np.zeros((2, 3)), np.zeros((1, 3))), both)
    with pytest.raises(BadTensor, match="'y' has time 4"):
        check_together((np.zeros((2, 3)), np.zeros((2, 4))), both)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(value):
    with pytest.raises(BadTensor, match="NaN or infinity"):
        check_finite(np.array([0.0, value]), "x")


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("uint8", [0, 255]),
        ("int64", [-(2**63), 2**63 - 1]),
        ("uint64", [0, 2**64 - 1]),
        ("bool", [True, False]),
        ("float32", [1, 0.5]),
        ("float16", [65504.0]),
    ],
)
def test_numbers_that_a_dtype_holds_are_kept_exactly(dtype, data):
    array = as_array([data], spec(dtype, len(data)))
    assert array.dtype == dtype
    assert array.tolist() == [data]


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("uint8", [256]),
        ("uint8", [-1]),
        ("int64", [2**63]),
        ("uint64", [2**64]),
        ("int64", [0.5]),
        ("bool", [1]),
        ("float32", ["1"]),
        ("float32", [1e39]),
        ("float16", [70000.0]),
        ("float32", [[1], [1, 2]]),
        ("float32", [None]),
    ],
)
def test_numbers_that_a_dtype_would_change_are_refused(dtype, data):
    with pytest.raises(BadTensor):
        as_array([data], spec(dtype, 1))


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_npy_file_gives_back_the_array_that_was_saved(order):
    array = np.asarray(np.arange(6, dtype="float32").reshape(2, 3), order=order)
    assert np.array_equal(from_npy(npy(array), spec("float32", 3)), array)


def test_a_npy_file_of_one_row_gets_its_batch_axis():
    row = np.arange(3, dtype="float32")
    assert np.array_equal(from_npy(npy(row), spec("float32", 3), one_row=True), row[None])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a .npy file"),
        (npy(np.zeros((1, 3), "float64")), "The array has dtype float64"),
        (npy(np.zeros((1, 2), "float32")), "The shape of 'x'"),
        (npy(np.zeros((1, 3), "float32"))[:-1], "needs 12 bytes"),
        (npy(np.full((1, 3), np.nan, "float32")), "NaN"),
    ],
)
def test_a_npy_file_that_the_model_does_not_take_is_refused(data, says):
    with pytest.raises(BadTensor, match=says):
        from_npy(data, spec("float32", 3))


def test_one_long_text_among_many_elements_takes_no_memory():
    data = ["x" * 10_000] + [0] * 50_000  # as an array of texts 2 GB
    tracemalloc.start()
    with pytest.raises(BadTensor, match="do not fit the datatype FP32 .* a JSON string"):
        as_array(data, spec("float32", 50_001))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6


@pytest.mark.parametrize("depth", [3, 60, 1_000])
def test_lists_deeper_than_the_tensor_are_refused(depth):
    data: object = 1.0
    for _ in range(depth):
        data = [data]
    with pytest.raises(BadTensor, match="nested deeper than the 2 axes"):
        as_array(data, spec("float32", 1))
