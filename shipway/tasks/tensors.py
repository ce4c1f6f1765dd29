"""Tensors in, tensors out: for models that no other task fits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shipway.artifact.manifest import Manifest
from shipway.errors import ShipwayError
from shipway.payloads.errors import BadRequest
from shipway.payloads.request import JSON, Request, parse_json, value_of
from shipway.payloads.schemas import Schema, an_object, nested, several
from shipway.payloads.tensors import as_array, check_shape, check_together, from_npy
from shipway.recipe import TensorSpec
from shipway.runtime.model import Model
from shipway.tasks import TASKS, demo_inputs
from shipway.tasks.base import Decoded, Example, Inputs, Task

FIELDS = ("body", "data")
NUMPY = b"\x93NUMPY"
ACCEPTED = (
    "Send a .npy file as the body (for a model with one input), or JSON with a nested list for "
    "each input: {name: [[…], …]}. The first axis contains the rows."
)


@TASKS.register("tensors")
class Tensors(Task):
    """Tensors in, tensors out."""

    bytes_tensor = "npy"

    def __init__(self, model: Model) -> None:
        self._inputs = model.manifest.inputs
        self._outputs = model.manifest.outputs

    def parse(self, request: Request) -> Inputs:
        """The rows of a .npy file or of JSON. Raises BadRequest, BadTensor or TooManyRows."""
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
                f"The request has the inputs {found}; this model takes "
                f"{', '.join(each.name for each in self._inputs)}. {ACCEPTED}"
            )
        arrays = {each.name: as_array(value[each.name], each) for each in self._inputs}
        return self._rows(arrays)

    def parse_bytes(self, data: bytes) -> Any:
        """An element is a .npy file of one row."""
        row_1 = from_npy(data, self._only(), one_row=True)
        [row] = self._rows({self._only().name: row_1}).items
        return row

    def parse_instance(self, value: Any) -> Any:
        """An instance is a row of each input, by name, or of the only input."""
        rows = value
        if isinstance(value, Mapping):
            rows = {name: [row] for name, row in value.items()}
        elif isinstance(value, list):
            rows = [value]
        [row] = self.parse(Request({"body": rows})).items
        return row

    def decode(self, items: Sequence[Any]) -> list[Decoded | ShipwayError]:
        """The rows are arrays already."""
        return [Decoded(each) for each in items]

    def answers(
        self, outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
    ) -> list[Any]:
        """For each row, its outputs by name."""
        return [
            {
                spec.name: np.ascontiguousarray(each[row])
                for spec, each in zip(self._outputs, outputs, strict=True)
            }
            for row in range(len(notes))
        ]

    @classmethod
    def native_schema(cls, manifest: Manifest) -> tuple[dict[str, Schema], Schema]:
        """Nested lists by the inputs' names, or a .npy file; the outputs of each row."""
        rows = an_object({each.name: nested(each, 1) for each in manifest.outputs})
        named = an_object({each.name: nested(each) for each in manifest.inputs})
        if len(manifest.inputs) != 1:
            return {JSON: named}, several(rows)
        contents: dict[str, Schema] = {
            JSON: {"anyOf": [named, nested(manifest.inputs[0])]},
            "application/x-npy": {"type": "string", "format": "binary"},
        }
        return contents, several(rows)

    @classmethod
    def examples(cls, tensors: Sequence[Mapping[str, Any]]) -> Sequence[Example]:
        """Numbers of the inputs' shapes, if scikit-learn is installed."""
        return demo_inputs.numbers(tensors)

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
