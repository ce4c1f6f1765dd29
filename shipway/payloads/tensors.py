"""Numbers as clients send them, in nested lists or .npy files, to arrays that a model takes."""

import io
from collections.abc import Sequence
from itertools import chain
from math import prod
from typing import Any

import numpy as np

from shipway.payloads.errors import BadTensor
from shipway.payloads.request import check_count, json_type
from shipway.recipe import Axis, TensorSpec

DATATYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
"""dtypes by the names of the Open Inference Protocol."""
_NUMBERS = {int, float, bool}
DATATYPE_OF = {dtype: name for name, dtype in DATATYPES.items()}

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def check_shape(shape: Sequence[int], spec: TensorSpec) -> None:
    """Raises BadTensor unless the shape fits the spec. The rows, its first axis, need not fit one
    run; TooManyRows for more than one request may have."""
    fits = len(shape) == len(spec.shape) and all(
        axis.min <= length <= axis.max if isinstance(axis, Axis) else length == axis
        for length, axis in zip(shape[1:], spec.shape[1:], strict=True)
    )
    if not fits:
        wanted = ", ".join(
            f"{axis.min} to {axis.max}" if isinstance(axis, Axis) else str(axis)
            for axis in spec.shape[1:]
        )
        raise BadTensor(
            f"The shape of {spec.name!r} is {list(shape)[:8]}; this model takes [rows, {wanted}]."
        )
    check_count(shape[0], "rows")


def check_together(arrays: Sequence[np.ndarray], inputs: Sequence[TensorSpec]) -> None:
    """Raises BadTensor if inputs differ in their rows, or in another axis that they share."""
    if len({len(each) for each in arrays}) != 1:
        raise BadTensor(
            "The inputs have different numbers of rows. Send the same number of "
            "rows for each input."
        )
    sizes: dict[str, int] = {}
    for array, spec in zip(arrays, inputs, strict=True):
        for size, axis in zip(array.shape, spec.shape, strict=True):
            if isinstance(axis, Axis) and sizes.setdefault(axis.name, size) != size:
                raise BadTensor(
                    f"{spec.name!r} has {axis.name} {size}; another input has "
                    f"{sizes[axis.name]}. Send the same size for both."
                )


def check_finite(array: np.ndarray, name: str) -> None:
    """Raises BadTensor for NaN or infinity."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BadTensor(f"{name!r} contains NaN or infinity. Send finite numbers.")


def as_array(data: Any, spec: TensorSpec) -> np.ndarray:
    """Numbers in nested lists as an array of the spec's dtype. Raises BadTensor for values that it
    cannot hold."""
    _check_numbers(data, spec)
    try:
        found = np.array(data)
    except (ValueError, OverflowError) as error:  # lists of several lengths, among others
        raise BadTensor(
            f"The data of {spec.name!r} is not a tensor: {error}. Send nested "
            "lists of equal lengths."
        ) from error
    if found.dtype == float and spec.dtype == "uint64":
        # NumPy takes large and small whole numbers together for floats.
        exact = np.array(data, object)
        if all(type(each) is int and 0 <= each < 2**64 for each in exact.flat):
            found = exact.astype(np.uint64)
    kinds = {"b": "b", "u": "ui", "i": "ui", "f": "uif"}[np.dtype(spec.dtype).kind]
    if found.size and found.dtype.kind not in kinds:
        raise BadTensor(
            f"The data of {spec.name!r} contains values that do not fit the datatype "
            f"{DATATYPE_OF[spec.dtype]}. Send values of this datatype."
        )
    with np.errstate(over="ignore", invalid="ignore"):
        array = found.astype(spec.dtype)
    if found.dtype.kind in "ui" and array.dtype.kind in "ui" and not np.array_equal(array, found):
        raise BadTensor(
            f"The data of {spec.name!r} is outside the range of {DATATYPE_OF[spec.dtype]}. "
            "Send values within this range."
        )
    check_finite(array, spec.name)
    return array


def _check_numbers(data: Any, spec: TensorSpec) -> None:
    """Raises BadTensor unless `data` is numbers in lists that are no deeper than the spec's shape.

    NumPy would give every element of a list the room that its longest text needs.
    """
    level = [data]
    for _ in range(len(spec.shape) + 1):
        kinds = set(map(type, level))
        if kinds <= _NUMBERS:
            return
        if kinds != {list}:
            others = kinds - _NUMBERS - {list}
            what = "lists and numbers side by side"
            if others:
                what = f"a JSON {json_type(next(each for each in level if type(each) in others))}"
            raise BadTensor(
                f"The data of {spec.name!r} contains values that do not fit the datatype "
                f"{DATATYPE_OF[spec.dtype]} in nested lists of equal lengths: {what}."
            )
        level = list(chain.from_iterable(level))
    raise BadTensor(
        f"The data of {spec.name!r} is nested deeper than the {len(spec.shape)} axes that this "
        "model takes. Send nested lists of its shape."
    )


def from_npy(data: bytes | bytearray, spec: TensorSpec, *, one_row: bool = False) -> np.ndarray:
    """The array of a .npy file of numbers; nothing in it is run.

    A file of `one_row` lacks the first axis, which is added. The header is checked before memory
    is used for what it says. Raises BadTensor, or TooManyRows.
    """
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        shape, in_columns, dtype = _HEADERS[version](file)
    except Exception as error:  # a header is a Python literal, and may be broken in as many ways
        raise BadTensor(
            f"The body is not a .npy file of format 1 or 2: {str(error)[:200]}."
        ) from error
    if str(dtype) != spec.dtype:
        raise BadTensor(
            f"The array has dtype {str(dtype)[:40]}; {spec.name!r} needs {spec.dtype} "
            f"({DATATYPE_OF[spec.dtype]} in v2). Convert the array."
        )
    if one_row:
        shape = (1, *shape)
    check_shape(shape, spec)
    rest, expected = data[file.tell() :], prod(shape) * dtype.itemsize
    if len(rest) != expected:
        raise BadTensor(
            f"An array of shape {list(shape)} needs {expected} bytes; the body contains "
            f"{len(rest)}. Send the complete file."
        )
    array = np.frombuffer(rest, dtype).reshape(shape, order="F" if in_columns else "C")
    check_finite(array, spec.name)
    return array
