"""Parts of JSON Schema, as in OpenAPI 3.1, that several tasks use to describe their requests."""

from typing import Any

import numpy as np

from shipway.payloads.request import MAX_ROWS
from shipway.recipe import Axis, TensorSpec

Schema = dict[str, Any]

NUMBERS = {"f": "number", "i": "integer", "u": "integer", "b": "boolean"}
"""The JSON type of each kind of NumPy dtype."""


def nested(spec: TensorSpec, axis: int = 0) -> Schema:
    """Nested lists from `axis` on: a whole tensor from 0, one row of it from 1."""
    schema: Schema = {"type": NUMBERS[np.dtype(spec.dtype).kind]}
    for place in range(len(spec.shape) - 1, axis - 1, -1):
        bounds = sizes(spec.shape[place], rows=place == 0)
        schema = {
            "type": "array",
            "items": schema,
            "minItems": bounds["minimum"],
            "maxItems": bounds["maximum"],
        }
    return schema


def sizes(axis: int | Axis, *, rows: bool = False) -> Schema:
    """The sizes that an axis may have in a request. `rows` marks the batch axis."""
    if rows:  # as many as one request may have, which need not fit one run
        return {"type": "integer", "minimum": 1, "maximum": MAX_ROWS}
    least, most = (axis.min, axis.max) if isinstance(axis, Axis) else (axis, axis)
    return {"type": "integer", "minimum": least, "maximum": most}


def an_object(properties: dict[str, Schema]) -> Schema:
    """An object with all of these properties, and possibly others."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def several(row: Schema) -> Schema:
    """A list with one element for each row of a request."""
    return {"type": "array", "items": row, "minItems": 1, "maxItems": MAX_ROWS}


def one_or_several(row: Schema) -> Schema:
    """One row, or a list of rows."""
    return {"anyOf": [row, several(row)]}
