"""The inference API of one model, in OpenAPI 3.1: its native payloads and v2 tensors, what is
answered, and what is refused."""

from collections.abc import Mapping

from shipway.artifact.manifest import Manifest
from shipway.payloads.request import JSON
from shipway.payloads.schemas import Schema, an_object, sizes
from shipway.payloads.tensors import DATATYPE_OF
from shipway.serving.deadlines import SENT, WITHIN
from shipway.serving.statuses import STATUS_OF
from shipway.tasks import TASKS

ERROR: Schema = {
    "type": "object",
    "properties": {
        "code": {"type": "integer"},
        "type": {"type": "string"},
        "message": {"type": "string"},
        "error": {
            "type": "string",
            "description": ("The same message, in the field that v2 clients read."),
        },
    },
    "required": ["code", "type", "message"],
}


def describe(manifest: Manifest, answered_by_server: Mapping[int, str]) -> Schema:
    """The document, for `manifest`'s model on this project's server.

    `answered_by_server` describes, by status, the answers to requests that never reach a handler.
    """
    task = TASKS.get(manifest.task)
    contents, answer = task.native_schema(manifest)
    native = _operation("predict", contents, answer, answered_by_server)
    at_version = _operation("predict_version", contents, answer, answered_by_server)
    for operation in (native, at_version):
        for kind in task.other_types:
            file = {"schema": {"type": "string", "format": "binary"}}
            operation["responses"]["200"]["content"][kind] = file
    tensors = _operation(
        "infer",
        {JSON: _request_of_tensors(manifest)},
        _reply_of_tensors(manifest),
        answered_by_server,
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": manifest.name, "version": manifest.version},
        "paths": {
            f"/predictions/{manifest.name}": {"post": native},
            f"/predictions/{manifest.name}/{manifest.version}": {"post": at_version},
            f"/v2/models/{manifest.name}/infer": {"post": tensors},
        },
        "components": {
            "schemas": {"Error": ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(
    name: str,
    contents: dict[str, Schema],
    answer: Schema,
    answered_by_server: Mapping[int, str],
) -> Schema:
    error = {"content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}
    responses: Schema = {
        "200": {"description": "The prediction.", "content": {JSON: {"schema": answer}}},
        **{
            str(status): {"description": ", ".join(_kinds(status, answered_by_server))} | error
            for status in sorted({*STATUS_OF.values(), *answered_by_server})
        },
    }
    responses["504"]["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return {
        "operationId": name,
        "parameters": [
            _header(WITHIN, "How long the request may take, in milliseconds."),
            _header(SENT, "When the request was sent, in seconds since 1970-01-01 UTC."),
        ],
        "requestBody": {
            "required": True,
            "content": {kind: {"schema": schema} for kind, schema in contents.items()},
        },
        "responses": responses,
    }


def _kinds(status: int, answered_by_server: Mapping[int, str]) -> list[str]:
    ours = sorted(kind.__name__ for kind, of in STATUS_OF.items() if of == status)
    return [*ours, *([answered_by_server[status]] if status in answered_by_server else [])]


def _header(name: str, description: str) -> Schema:
    schema = {"type": "number", "exclusiveMinimum": 0}
    return {"name": name, "in": "header", "description": description, "schema": schema}


def _request_of_tensors(manifest: Manifest) -> Schema:
    inputs = [
        an_object(
            {
                "name": {"const": each.name},
                "datatype": {"const": DATATYPE_OF[each.dtype]},
                "shape": {
                    "type": "array",
                    "prefixItems": [
                        sizes(axis, rows=not place) for place, axis in enumerate(each.shape)
                    ],
                    "minItems": len(each.shape),
                    "maxItems": len(each.shape),
                },
                "data": {"type": "array"},
            }
        )
        for each in manifest.inputs
    ]
    schema = an_object(
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
    tensor = an_object(
        {
            "name": {"enum": [each.name for each in manifest.outputs]},
            "datatype": {"enum": [DATATYPE_OF[each.dtype] for each in manifest.outputs]},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "data": {"type": "array"},
        }
    )
    reply = an_object(
        {
            "model_name": {"const": manifest.name},
            "model_version": {"const": manifest.version},
            "outputs": {"type": "array", "items": tensor, "minItems": 1},
        }
    )
    reply["properties"] |= {"id": {"type": "string"}, "parameters": {"type": "object"}}
    return reply
