"""Tensors in, tensors out: for every model that no other task is for."""

import io
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from handlers.errors import BadRequest, BadTensor
from handlers.oip import DATATYPE_OF, as_array, check_finite, check_shape, check_together
from handlers.requests import Request, parse_json, value_of
from handlers.task import Decoded, Inputs
from shipway.artifact.manifest import TensorSpec
from shipway.errors import ShipwayError
from shipway.runtime.model import Model

FIELDS = ("body", "data")
NUMPY = b"\x93NUMPY"
ACCEPTED = (
    "Accepted are a .npy file as the body, for a model with one input, or JSON with a nested list "
    "for each input: {name: [[…], …]}. The first axis is the rows."
)


_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Tensors:
    natural = "npy"

    def __init__(self, model: Model) -> None:
        self._inputs = model.manifest.inputs
        self._outputs = model.manifest.outputs

    def parse(self, request: Request) -> Inputs:
        value = value_of(request, FIELDS, ACCEPTED)
        if isinstance(value, bytes | bytearray):
            if value.startswith(NUMPY):
                return self._rows({self._only().name: from_npy(value, self._only())})
            value = parse_json(value, ACCEPTED)
        if isinstance(value, list):
            value = {self._only().name: value}
        if not isinstance(value, Mapping) or set(value) != {each.name for each in self._inputs}:
            found = (
                ", ".join(repr(each[:40]) for each in list(value)[:5])
                if isinstance(value, Mapping)
                else "none"
            )
            raise BadRequest(
                f"The inputs are {found}; this model takes "
                f"{', '.join(each.name for each in self._inputs)}. {ACCEPTED}"
            )
        arrays = {each.name: as_array(value[each.name], each) for each in self._inputs}
        return self._rows(arrays)

    def parse_bytes(self, data: bytes) -> Any:
        row_1 = from_npy(data, self._only(), one_row=True)
        [row] = self._rows({self._only().name: row_1}).items
        return row

    def decode(self, items: Sequence[Any]) -> list[Decoded | ShipwayError]:
        return [Decoded(each) for each in items]

    def check(self, arrays: tuple[np.ndarray, ...]) -> None:
        pass  # what each value means is the model's affair

    def answers(
        self, outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
    ) -> list[Any]:
        return [
            {
                spec.name: np.ascontiguousarray(each[row])
                for spec, each in zip(self._outputs, outputs, strict=True)
            }
            for row in range(len(notes))
        ]

    def _only(self) -> TensorSpec:
        if len(self._inputs) != 1:
            raise BadRequest(f"This model takes {len(self._inputs)} inputs. {ACCEPTED}")
        return self._inputs[0]

    def _rows(self, arrays: Mapping[str, np.ndarray]) -> Inputs:
        for spec in self._inputs:
            check_shape(arrays[spec.name].shape, spec)
        columns = [arrays[spec.name] for spec in self._inputs]
        check_together(columns, self._inputs)
        return Inputs(list(zip(*columns, strict=True)), many=True)


def from_npy(data: bytes | bytearray, spec: TensorSpec, *, one_row: bool = False) -> np.ndarray:
    """The array of a .npy file, which holds numbers and nothing that runs; `one_row` lacks the
    first axis, and is given it. The header is checked before anything is made of what it says."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        shape, in_columns, dtype = _HEADERS[version](file)
    except Exception as error:  # a header is a Python literal, and may be broken in as many ways
        raise BadTensor(
            f"The body is no .npy file of format 1 or 2: {str(error)[:200]}."
        ) from error
    if str(dtype) != spec.dtype:
        raise BadTensor(
            f"The array is {str(dtype)[:40]}; {spec.name!r} is {spec.dtype} "
            f"({DATATYPE_OF[spec.dtype]} in v2)."
        )
    if one_row:
        shape = (1, *shape)
    check_shape(shape, spec)
    rest, expected = data[file.tell() :], prod(shape) * dtype.itemsize
    if len(rest) != expected:
        raise BadTensor(
            f"The array of shape {list(shape)} has {expected} bytes; {len(rest)} are there."
        )
    array = np.frombuffer(rest, dtype).reshape(shape, order="F" if in_columns else "C")
    check_finite(array, spec.name)
    return array
