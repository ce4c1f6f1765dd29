"""The half that tasks for tables share: a row of numbers, or a list of rows, to float32."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shipway.artifact.manifest import Manifest
from shipway.errors import ShipwayError
from shipway.payloads.errors import BadRequest, BadTensor
from shipway.payloads.request import (
    JSON,
    Request,
    check_count,
    json_type,
    only_key,
    parse_json,
    value_of,
)
from shipway.payloads.schemas import Schema, an_object, one_or_several
from shipway.payloads.tensors import as_array
from shipway.recipe import TablePreprocessing
from shipway.runtime.model import Model
from shipway.tasks import demo_inputs
from shipway.tasks.base import Decoded, Example, Inputs, Task, preprocessing_of

FIELDS = ("body", "data", "rows")
ACCEPTED = (
    "Send JSON: a row as a list of numbers in the order of the columns, a row as an object "
    "with a number for each column, a list of such rows, or a table as pandas' "
    'to_json(orient="split") writes it.'
)


class TableTask(Task):
    """Reads rows of a table. Subclasses say what the outputs mean."""

    bytes_tensor = "row"

    def __init__(self, model: Model) -> None:
        spec = preprocessing_of(model.manifest, TablePreprocessing)
        self._manifest = model.manifest
        self._columns = spec.columns
        (self._input,) = model.manifest.inputs

    def parse(self, request: Request) -> Inputs:
        """The rows of a JSON body. Raises BadRequest or TooManyRows."""
        value = value_of(request, FIELDS, ACCEPTED)
        if isinstance(value, bytes | bytearray | str):
            value = parse_json(value, ACCEPTED)
        if isinstance(value, Mapping) and not set(value) & set(self._columns):
            value = (
                self._split(value) if "columns" in value else only_key(value, FIELDS[1:], ACCEPTED)
            )
        many = isinstance(value, list) and (not value or isinstance(value[0], list | Mapping))
        rows = value if many else [value]
        check_count(len(rows), "rows")
        return Inputs(rows, many)

    def _split(self, value: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Rows as pandas writes them by `to_json(orient="split")`: with the names of the columns,
        in whatever order, once."""
        columns, rows = value["columns"], value.get("data")
        if not set(value) <= {"columns", "index", "data"} or not isinstance(rows, list):
            raise BadRequest(
                "A table has `columns`, `data` and, if need be, `index`, as pandas' "
                f'to_json(orient="split") writes it. {ACCEPTED}'
            )
        if (
            not isinstance(columns, list)
            or not all(isinstance(each, str) for each in columns)
            or len(set(columns)) != len(columns)
        ):
            raise BadRequest("`columns` is not a list of different names. Name each column once.")
        if not all(isinstance(row, list) and len(row) == len(columns) for row in rows):
            raise BadRequest(
                f"`columns` has {len(columns)} names, and a row of `data` is not a list of as many "
                "numbers. Send a number for each column."
            )
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def parse_bytes(self, data: bytes) -> Any:
        """An element is one row in JSON."""
        return parse_json(data, ACCEPTED)

    def decode(self, items: Sequence[Any]) -> list[Decoded | ShipwayError]:
        """Each row as float32 (columns,)."""
        found: list[Decoded | ShipwayError] = []
        for item in items:
            try:
                found.append(Decoded((self._numbers(item),)))
            except (BadRequest, BadTensor) as error:
                found.append(error)
        return found

    def _numbers(self, row: Any) -> np.ndarray:
        if isinstance(row, Mapping):
            if wrong := [str(each)[:40] for each in set(row) ^ set(self._columns)]:
                raise BadRequest(
                    f"The row has {len(row)} columns, and this model takes {len(self._columns)}. "
                    f"Missing or unknown: {', '.join(sorted(wrong)[:5])}."
                )
            row = [row[each] for each in self._columns]
        if not isinstance(row, list):
            raise BadRequest(f"The row is a JSON {json_type(row)}. {ACCEPTED}")
        if len(row) != len(self._columns):
            raise BadRequest(
                f"The row has {len(row)} numbers, and this model takes {len(self._columns)}: "
                f"{', '.join(self._columns[:3])}, …"
            )
        numbers = as_array(row, self._input)
        if numbers.ndim != 1:
            raise BadRequest(f"A value in the row is a list, not a number. {ACCEPTED}")
        return numbers

    @classmethod
    def examples(cls, tensors: Sequence[Mapping[str, Any]]) -> Sequence[Example]:
        """Rows of a table with as many columns, if scikit-learn is installed."""
        return demo_inputs.table_rows(columns=tensors[0]["shape"][-1])


def table_contents(manifest: Manifest) -> dict[str, Schema]:
    """The schema of a request by content type, for OpenAPI."""
    spec = preprocessing_of(manifest, TablePreprocessing)
    number = {"type": "number"}
    in_order = {"type": "array", "items": number, "minItems": len(spec.columns)}
    row = {
        "anyOf": [
            in_order | {"maxItems": len(spec.columns)},
            an_object(dict.fromkeys(spec.columns, number)),
        ]
    }
    return {JSON: one_or_several(row)}
