"""Parts of JSON Schema, as OpenAPI 3.1 has it, that the descriptions of several tasks share."""

from typing import Any

import numpy as np

from shipway.payloads.request import MAX_ROWS
from shipway.recipe import Axis, TensorSpec

Schema = dict[str, Any]

NUMBERS = {"f": "number", "i": "integer", "u": "integer", "b": "boolean"}
"""The JSON type of each kind of NumPy dtype."""


def nested(spec: TensorSpec, axis: int = 0) -> Schema:
    """Lists in lists from this axis on: all of a tensor, or from 1 a row of it."""
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
    """The sizes that an axis may have in a request."""
    if rows:  # as many as one request may have: they need not fit into one run
        return {"type": "integer", "minimum": 1, "maximum": MAX_ROWS}
    least, most = (axis.min, axis.max) if isinstance(axis, Axis) else (axis, axis)
    return {"type": "integer", "minimum": least, "maximum": most}


def an_object(properties: dict[str, Schema]) -> Schema:
    """An object that has all of these properties; it may have others."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def several(row: Schema) -> Schema:
    """A list with one element for each row of a request."""
    return {"type": "array", "items": row, "minItems": 1, "maxItems": MAX_ROWS}


def one_or_several(row: Schema) -> Schema:
    """One row by itself, or a list of rows."""
    return {"anyOf": [row, several(row)]}
