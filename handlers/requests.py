"""One TorchServe row to the bytes of one input. HTTP and gRPC arrive here in the same form."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from handlers.errors import BadRequest

FIELDS = ("body", "data", "image", "file")
"""The names under which an image is looked for. TorchServe calls a plain HTTP body `body`."""

ACCEPTED = (
    "Accepted are the bytes of an image as the body, a multipart form with a field "
    '`image`, or JSON such as {"image": "<base64>"}.'
)


def image_bytes(row: Mapping[str, Any]) -> bytes | bytearray:
    """The bytes of the image in a row.

    A row maps parameter names to values: bytes, or what TorchServe has decoded from JSON or text.
    Raises BadRequest, saying what was found and what is accepted.
    """
    value = _only_field(row, "The request")
    if isinstance(value, bytes | bytearray):
        if not value:
            raise BadRequest(f"The request's body is empty: 0 bytes. {ACCEPTED}")
        # No image format starts with a brace, and gRPC carries no content type.
        if value[:64].lstrip()[:1] != b"{":
            return value
        value = _parse_json(value)
    if isinstance(value, Mapping):
        value = _only_field(value, "The JSON object")
    if not isinstance(value, str):
        raise BadRequest(f"The image is a JSON {_json_type(value)}, not a string. {ACCEPTED}")
    return _from_base64(value)


def _only_field(fields: Mapping[str, Any], holder: str) -> Any:
    known = [name for name in FIELDS if name in fields]
    if len(known) == 1:
        return fields[known[0]]
    found = ", ".join(f"`{name[:40]}`" for name in list(fields)[:5]) or "none"
    raise BadRequest(
        f"{holder} must have one field with an image; its fields are {found}. {ACCEPTED}"
    )


def _parse_json(text: bytes | bytearray) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise BadRequest(f"The JSON is nested too deeply. {ACCEPTED}") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError both are
        raise BadRequest(f"The JSON does not parse: {error}. {ACCEPTED}") from error


def _from_base64(text: str) -> bytes:
    if text.startswith("data:"):  # as browsers write it: data:image/png;base64,…
        text = text.partition(",")[2]
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"The image is no valid base64: {error}. {ACCEPTED}") from error
    if not data:
        raise BadRequest(f"The image is an empty string. {ACCEPTED}")
    return data


def _json_type(value: Any) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
