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
from shipway.recipe import Column, TablePreprocessing
from shipway.runtime.model import Model
from shipway.tasks import demo_inputs
from shipway.tasks.base import Decoded, Example, Inputs, Task, preprocessing_of

FIELDS = ("body", "data", "rows")
EXACT = 2**24
"""Whole numbers up to this one are exact in float32 (IEEE 754: 24 bits)."""
SHOWN = 10
"""The most values of a category that an error lists."""
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
        self._columns = spec.names
        self._described = spec.described
        self._plain = all(each == Column(name=each.name) for each in spec.described)
        self._optional = {each.name for each in spec.described if each.missing is not None}
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

    def check(self, arrays: tuple[np.ndarray, ...]) -> None:
        """Refuses numbers that are not what the columns say."""
        if self._plain:
            return
        for column, values_B in zip(self._described, arrays[0].T, strict=True):
            wrong_B = _not_of(values_B, column)
            if wrong_B.any():
                raise BadTensor(
                    f"{column.name!r} is {values_B[wrong_B][0]:g} in row {int(wrong_B.argmax())}, "
                    f"and this model takes {_accepted(column)} for it."
                )

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
            unlike = (set(row) ^ set(self._columns)) - self._optional
            if wrong := [str(each)[:40] for each in unlike]:
                raise BadRequest(
                    f"The row has {len(row)} columns, and this model takes {len(self._columns)}. "
                    f"Missing or unknown: {', '.join(sorted(wrong)[:5])}."
                )
            row = [row.get(each) for each in self._columns]
        if not isinstance(row, list):
            raise BadRequest(f"The row is a JSON {json_type(row)}. {ACCEPTED}")
        if len(row) != len(self._columns):
            raise BadRequest(
                f"The row has {len(row)} numbers, and this model takes {len(self._columns)}: "
                f"{', '.join(self._columns[:3])}, …"
            )
        if not self._plain:
            row = [number_of(*each) for each in zip(row, self._described, strict=True)]
        numbers = as_array(row, self._input)
        if numbers.ndim != 1:
            raise BadRequest(f"A value in the row is a list, not a number. {ACCEPTED}")
        return numbers

    @classmethod
    def examples(cls, tensors: Sequence[Mapping[str, Any]]) -> Sequence[Example]:
        """Rows of a table with as many columns, if scikit-learn is installed."""
        return demo_inputs.table_rows(columns=tensors[0]["shape"][-1])


def number_of(value: Any, column: Column) -> Any:
    """What the program takes for a value of a column. Raises BadRequest for one that the column may
    not hold; what is no number is left for `as_array` to refuse."""
    if value is None:
        if column.missing is None:
            raise BadRequest(f"{column.name!r} is null, and this model needs a value for it.")
        return column.missing
    if column.values:
        if not isinstance(value, str) or value not in column.values:
            said = repr(value[:40]) if isinstance(value, str) else f"a JSON {json_type(value)}"
            known = ", ".join(map(repr, column.values[:SHOWN]))
            more = ", …" if len(column.values) > SHOWN else ""
            raise BadRequest(f"{column.name!r} is {said}; this model knows {known}{more}.")
        return column.values.index(value)
    if isinstance(value, bool):
        raise BadRequest(f"{column.name!r} is a JSON boolean; this model takes a number for it.")
    if not isinstance(value, int | float):
        return value
    said = str(value)[:40]
    if column.integer and isinstance(value, float) and not value.is_integer():
        raise BadRequest(f"{column.name!r} is {said}; this model takes whole numbers for it.")
    low, high = column.min, column.max
    if (low is not None and value < low) or (high is not None and value > high):
        raise BadRequest(f"{column.name!r} is {said}; this model takes {_limits(column)} for it.")
    if column.integer and abs(value) > EXACT:
        raise BadRequest(
            f"{column.name!r} is {said}, and the program's float32 has whole numbers up to "
            f"{EXACT:,} only."
        )
    return value


def _limits(column: Column) -> str:
    return " and ".join(
        f"at {word} {limit:g}"
        for word, limit in (("least", column.min), ("most", column.max))
        if limit is not None
    )


def _accepted(column: Column) -> str:
    """The numbers that a program takes for a column."""
    if column.values:
        found = f"0 to {len(column.values) - 1}"
    else:
        found = " ".join(filter(None, ["whole numbers" if column.integer else "", _limits(column)]))
    return found if column.missing is None else f"{found}, or {column.missing:g}"


def _not_of(values_B: np.ndarray, column: Column) -> np.ndarray:
    """Which numbers a program must not get for a column, (B,)."""
    low, high = column.min, column.max
    if column.values:
        low, high = 0.0, len(column.values) - 1.0
    wrong_B = np.zeros(len(values_B), bool)
    if column.values or column.integer:
        wrong_B |= values_B != np.round(values_B)
    if low is not None:
        wrong_B |= values_B < np.float32(low)
    if high is not None:
        wrong_B |= values_B > np.float32(high)
    return wrong_B if column.missing is None else wrong_B & (values_B != np.float32(column.missing))


def _schema(column: Column) -> Schema:
    found: Schema = {"type": "integer" if column.integer else "number"}
    if column.values:
        found = {"enum": list(column.values)}
    if column.min is not None:
        found["minimum"] = column.min
    if column.max is not None:
        found["maximum"] = column.max
    return found if column.missing is None else {"anyOf": [found, {"type": "null"}]}


def table_contents(manifest: Manifest) -> dict[str, Schema]:
    """The schema of a request by content type, for OpenAPI."""
    spec = preprocessing_of(manifest, TablePreprocessing)
    schemas = {each.name: _schema(each) for each in spec.described}
    count, different = len(schemas), list(schemas.values())
    in_order: Schema = {"type": "array", "minItems": count, "maxItems": count}
    if all(each == different[0] for each in different):
        in_order["items"] = different[0]
    else:
        in_order["prefixItems"] = different
    by_name = an_object(schemas)
    by_name["required"] = [each.name for each in spec.described if each.missing is None]
    row = {"anyOf": [in_order, by_name]}
    return {JSON: one_or_several(row)}
