"""The inference API of one model, in OpenAPI 3.1: its natural forms and v2 tensors, what is
answered, and what is refused."""

from typing import Any

import numpy as np

from handlers.deadlines import SENT, WITHIN
from handlers.errors import STATUS_OF
from handlers.oip import DATATYPE_OF
from handlers.requests import BINARY, JSON, MAX_ROWS
from shipway.artifact.manifest import (
    Axis,
    ImagePreprocessing,
    Manifest,
    TablePreprocessing,
    TensorPreprocessing,
    TensorSpec,
    TextPreprocessing,
)
from shipway.runtime.texts import MAX_CHARACTERS

Schema = dict[str, Any]

NUMBERS = {"f": "number", "i": "integer", "u": "integer", "b": "boolean"}
BY_TORCHSERVE = {
    400: "InvalidKeyException for a token that is wrong or missing",
    404: "ModelNotFoundException, ModelVersionNotFoundException",
    500: "an exception of Java's for a form that cannot be taken apart",
    503: "ServiceUnavailableException where the queue is full or there is no worker",
}
"""What never reaches a handler."""
ERROR: Schema = {
    "type": "object",
    "properties": {
        "code": {"type": "integer"},
        "type": {"type": "string"},
        "message": {"type": "string"},
        "error": {"type": "string", "description": "The message once more, for v2."},
    },
    "required": ["code", "type", "message"],
}


def describe(manifest: Manifest) -> Schema:
    """The document, for `manifest`'s model on this project's server."""
    contents, answer = _natural(manifest)
    natural = _operation("predict", contents, answer)
    at_version = _operation("predict_version", contents, answer)
    tensors = _operation(
        "infer", {JSON: _request_of_tensors(manifest)}, _reply_of_tensors(manifest)
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": manifest.name, "version": manifest.version},
        "paths": {
            f"/predictions/{manifest.name}": {"post": natural},
            f"/predictions/{manifest.name}/{manifest.version}": {"post": at_version},
            f"/v2/models/{manifest.name}/infer": {"post": tensors},
        },
        "components": {
            "schemas": {"Error": ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(name: str, contents: dict[str, Schema], answer: Schema) -> Schema:
    error = {"content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}
    responses: Schema = {
        "200": {"description": "An answer.", "content": {JSON: {"schema": answer}}},
        **{
            str(status): {"description": ", ".join(_kinds(status))} | error
            for status in sorted({*STATUS_OF.values(), *BY_TORCHSERVE})
        },
    }
    responses["504"]["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return {
        "operationId": name,
        "parameters": [
            _header(WITHIN, "How long the request may take, in milliseconds."),
            _header(SENT, "When it was sent: seconds since 1970."),
        ],
        "requestBody": {
            "required": True,
            "content": {kind: {"schema": schema} for kind, schema in contents.items()},
        },
        "responses": responses,
    }


def _kinds(status: int) -> list[str]:
    ours = sorted(kind.__name__ for kind, of in STATUS_OF.items() if of == status)
    return [*ours, *([BY_TORCHSERVE[status]] if status in BY_TORCHSERVE else [])]


def _header(name: str, description: str) -> Schema:
    schema = {"type": "number", "exclusiveMinimum": 0}
    return {"name": name, "in": "header", "description": description, "schema": schema}


def _natural(manifest: Manifest) -> tuple[dict[str, Schema], Schema]:
    """What each content type holds, and the answer."""
    match manifest.preprocessing:
        case ImagePreprocessing():
            return _image_forms(), _classes(manifest)
        case TextPreprocessing():
            one = _noted(
                {"predictions": _classes(manifest)}
                if manifest.classifies
                else {"embedding": {"type": "array", "items": {"type": "number"}}}
            )
            return _text_forms(), _one_or_several(one)
        case TablePreprocessing(columns=columns):
            return {JSON: _rows_of_a_table(columns)}, _one_or_several(_classes(manifest))
        case TensorPreprocessing():
            rows = _object({each.name: _nested(each, 1) for each in manifest.outputs})
            return _tensor_forms(manifest), _several(rows)


def _image_forms() -> dict[str, Schema]:
    field = {"type": "string", "contentMediaType": "image/*"}
    return {
        BINARY: {"type": "string", "format": "binary"},
        JSON: _object({"image": {"type": "string", "contentEncoding": "base64"}}),
        "multipart/form-data": _object({"image": field | {"format": "binary"}}),
    }


def _text_forms() -> dict[str, Schema]:
    text = {"type": "string", "maxLength": MAX_CHARACTERS}
    body = _one_or_several(text)
    return {JSON: {"anyOf": [*body["anyOf"], _object({"text": body})]}, "text/plain": text}


def _rows_of_a_table(columns: tuple[str, ...]) -> Schema:
    number = {"type": "number"}
    in_order = {"type": "array", "items": number, "minItems": len(columns)}
    row = {
        "anyOf": [in_order | {"maxItems": len(columns)}, _object(dict.fromkeys(columns, number))]
    }
    return _one_or_several(row)


def _tensor_forms(manifest: Manifest) -> dict[str, Schema]:
    named = _object({each.name: _nested(each) for each in manifest.inputs})
    if len(manifest.inputs) != 1:
        return {JSON: named}
    alone = _nested(manifest.inputs[0])
    return {
        JSON: {"anyOf": [named, alone]},
        "application/x-npy": {"type": "string", "format": "binary"},
    }


def _classes(manifest: Manifest) -> Schema:
    ranked = _object(
        {
            "class_id": {"type": "integer", "minimum": 0, "maximum": len(manifest.labels) - 1},
            "label": {"type": "string"},
            "probability": {"type": "number", "minimum": 0, "maximum": 1},
        }
    )
    count = min(manifest.top_k, len(manifest.labels))
    return {"type": "array", "items": ranked, "minItems": count, "maxItems": count}


def _noted(answer: dict[str, Schema]) -> Schema:
    return _object(answer | {"tokens": {"type": "integer"}, "truncated": {"type": "boolean"}})


def _request_of_tensors(manifest: Manifest) -> Schema:
    inputs = [
        _object(
            {
                "name": {"const": each.name},
                "datatype": {"const": DATATYPE_OF[each.dtype]},
                "shape": {
                    "type": "array",
                    "prefixItems": [
                        _sizes(axis, rows=not place) for place, axis in enumerate(each.shape)
                    ],
                    "minItems": len(each.shape),
                    "maxItems": len(each.shape),
                },
                "data": {"type": "array"},
            }
        )
        for each in manifest.inputs
    ]
    schema = _object(
        {
            "inputs": {
                "type": "array",
                "prefixItems": inputs,
                "minItems": len(inputs),
                "maxItems": len(inputs),
            }
        }
    )
    schema["properties"]["id"] = {"type": "string", "maxLength": 256}
    return schema


def _reply_of_tensors(manifest: Manifest) -> Schema:
    tensor = _object(
        {
            "name": {"enum": [each.name for each in manifest.outputs]},
            "datatype": {"enum": [DATATYPE_OF[each.dtype] for each in manifest.outputs]},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "data": {"type": "array"},
        }
    )
    reply = _object(
        {
            "model_name": {"const": manifest.name},
            "model_version": {"const": manifest.version},
            "outputs": {"type": "array", "items": tensor, "minItems": 1},
        }
    )
    reply["properties"] |= {"id": {"type": "string"}, "parameters": {"type": "object"}}
    return reply


def _nested(spec: TensorSpec, axis: int = 0) -> Schema:
    """Lists in lists from this axis on: all of a tensor, or from 1 a row of it."""
    schema: Schema = {"type": NUMBERS[np.dtype(spec.dtype).kind]}
    for place in range(len(spec.shape) - 1, axis - 1, -1):
        sizes = _sizes(spec.shape[place], rows=place == 0)
        schema = {
            "type": "array",
            "items": schema,
            "minItems": sizes["minimum"],
            "maxItems": sizes["maximum"],
        }
    return schema


def _sizes(axis: int | Axis, *, rows: bool = False) -> Schema:
    if rows:  # as many as one request may have: they need not fit into one run
        return {"type": "integer", "minimum": 1, "maximum": MAX_ROWS}
    least, most = (axis.min, axis.max) if isinstance(axis, Axis) else (axis, axis)
    return {"type": "integer", "minimum": least, "maximum": most}


def _object(properties: dict[str, Schema]) -> Schema:
    """All of them, and nothing else is promised."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _several(one: Schema) -> Schema:
    return {"type": "array", "items": one, "minItems": 1, "maxItems": MAX_ROWS}


def _one_or_several(one: Schema) -> Schema:
    return {"anyOf": [one, _several(one)]}
