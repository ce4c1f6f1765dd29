"""Tabular classification: a row of numbers, or several, in; the most probable classes out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handlers.classes import rank
from handlers.errors import BadRequest, BadTensor
from handlers.oip import as_array
from handlers.requests import Request, check_count, json_type, only_field, parse_json, value_of
from handlers.task import Decoded, Inputs
from shipway.artifact.manifest import TablePreprocessing
from shipway.errors import ShipwayError
from shipway.runtime.model import Model

FIELDS = ("body", "data", "rows")
ACCEPTED = (
    "Accepted is JSON: a row as a list of numbers in the columns' order, or as an object with "
    "a number for each column, or a list of such rows."
)


class TabularClassification:
    natural = "row"

    def __init__(self, model: Model) -> None:
        spec = model.manifest.preprocessing
        assert isinstance(spec, TablePreprocessing)  # as the archive was packed
        self._manifest = model.manifest
        self._columns = spec.columns
        (self._input,) = model.manifest.inputs

    def parse(self, request: Request) -> Inputs:
        value = value_of(request, FIELDS, ACCEPTED)
        if isinstance(value, bytes | bytearray | str):
            value = parse_json(value, ACCEPTED)
        if isinstance(value, Mapping) and not set(value) & set(self._columns):
            value = only_field(value, FIELDS[1:], "The JSON object", ACCEPTED)
        many = isinstance(value, list) and (not value or isinstance(value[0], list | Mapping))
        rows = value if many else [value]
        check_count(len(rows), "rows")
        return Inputs(rows, many)

    def parse_bytes(self, data: bytes) -> Any:
        return parse_json(data, ACCEPTED)

    def decode(self, items: Sequence[Any]) -> list[Decoded | ShipwayError]:
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
                    f"The row has {len(row)} columns; this model takes {len(self._columns)}. "
                    f"Missing or not known: {', '.join(sorted(wrong)[:5])}."
                )
            row = [row[each] for each in self._columns]
        if not isinstance(row, list):
            raise BadRequest(f"A row is a JSON {json_type(row)}. {ACCEPTED}")
        if len(row) != len(self._columns):
            raise BadRequest(
                f"The row has {len(row)} numbers; this model takes {len(self._columns)}: "
                f"{', '.join(self._columns[:3])}, …"
            )
        numbers = as_array(row, self._input)
        if numbers.ndim != 1:
            raise BadRequest(f"A row holds a list. {ACCEPTED}")
        return numbers

    def check(self, arrays: tuple[np.ndarray, ...]) -> None:
        pass  # every finite number is one

    def answers(
        self, outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
    ) -> list[Any]:
        return list(rank(outputs[0], self._manifest.labels, self._manifest.top_k))
