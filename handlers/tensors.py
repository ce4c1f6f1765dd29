"""Tensors in, tensors out: for every model that no other task is for."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handlers.errors import BadRequest, BadTensor
from handlers.oip import DATATYPE_OF, as_array, check_finite, check_shape
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


class Tensors:
    natural = "npy"

    def __init__(self, model: Model) -> None:
        self._inputs = model.manifest.inputs
        self._outputs = model.manifest.outputs

    def parse(self, request: Request) -> Inputs:
        value = value_of(request, FIELDS, ACCEPTED)
        if isinstance(value, bytes | bytearray):
            if value.startswith(NUMPY):
                return self._rows({self._only().name: _from_npy(value, self._only())})
            value = parse_json(value, ACCEPTED)
        if isinstance(value, list):
            value = {self._only().name: value}
        if not isinstance(value, Mapping) or set(value) != {each.name for each in self._inputs}:
            found = ", ".join(map(repr, list(value)[:5])) if isinstance(value, Mapping) else "none"
            raise BadRequest(
                f"The inputs are {found}; this model takes "
                f"{', '.join(each.name for each in self._inputs)}. {ACCEPTED}"
            )
        arrays = {each.name: as_array(value[each.name], each) for each in self._inputs}
        return self._rows(arrays)

    def parse_bytes(self, data: bytes) -> Any:
        [row] = self._rows({self._only().name: _from_npy(data, self._only())[None]}).items
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
        if len({len(each) for each in arrays.values()}) != 1:
            raise BadTensor("The inputs differ in their number of rows.")
        columns = [arrays[spec.name] for spec in self._inputs]
        return Inputs(list(zip(*columns, strict=True)), many=True)


def _from_npy(data: bytes | bytearray, spec: TensorSpec) -> np.ndarray:
    """The array of a .npy file, which holds numbers and nothing that runs."""
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, TypeError, MemoryError) as error:
        raise BadTensor(f"The body is no .npy file of numbers: {error}.") from error
    if str(array.dtype) != spec.dtype:
        raise BadTensor(
            f"The array is {array.dtype}; {spec.name!r} is {spec.dtype} "
            f"({DATATYPE_OF[spec.dtype]} in v2)."
        )
    check_finite(array, spec.name)
    return array
