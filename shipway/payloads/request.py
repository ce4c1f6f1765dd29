"""What arrives, over HTTP or gRPC and from whichever server, in one form."""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from shipway.payloads.errors import BadRequest, TooManyRows, UnsupportedContent

MAX_ROWS = 1024
"""Of one request. More would keep every other request waiting."""
MAX_DEPTH = 1024
"""Of lists and objects in each other: orjson's own bound, beyond which it stops at once."""
JSON = "application/json"
BINARY = "application/octet-stream"
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
"""What the server took apart already."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a batch."""

    fields: Mapping[str, Any]
    """A plain body is the field `body`, a form's fields have their own names. Values are bytes, or
    what the server has decoded from JSON or text."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Their names in lower case; none over gRPC."""
    id: str = ""
    """The server's own, for logs, metrics and traces."""

    def said(self, name: str) -> str:
        """The value of a header, in lower case here, or over gRPC, whose metadata TorchServe keeps
        to itself, of the field with its name; empty where there is neither."""
        value = self.headers.get(name) if self.headers else self.fields.get(name)
        if isinstance(value, bytes | bytearray):
            return value.decode("ascii", "replace")
        return value if isinstance(value, str) else ""

    @property
    def content_type(self) -> str:
        """Without parameters, in lower case; empty where nothing was said."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def wants_binary(self) -> bool:
        """Whether the reply should be v2 tensors in binary."""
        return BINARY in self.headers.get("accept", "")


def only_field(fields: Mapping[str, Any], names: Iterable[str], holder: str, accepted: str) -> Any:
    """The value of the one field among `names`; raises BadRequest if there are none or several."""
    known = [name for name in names if name in fields]
    if len(known) == 1:
        return fields[known[0]]
    found = ", ".join(f"`{str(name)[:40]}`" for name in list(fields)[:5]) or "none"
    raise BadRequest(
        f"{holder} must have one field with the input; its fields are {found}. {accepted}"
    )


def parse_json(text: bytes | bytearray | str, accepted: str) -> Any:
    """Raises BadRequest with the place where it stops to be JSON. NaN is none, as RFC 8259 says."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if "depth limit" in str(error):
            raise BadRequest(
                f"The JSON has more than {MAX_DEPTH:,} lists and objects in each other, which is "
                f"the most that is accepted. {accepted}"
            ) from error
        raise BadRequest(f"The JSON does not parse: {error}. {accepted}") from error


def input_of(request: Request, names: Iterable[str], accepted: str) -> Any:
    """The one field with the input, as it came; raises BadRequest if it is not there or empty."""
    value = only_field(request.fields, names, "The request", accepted)
    if isinstance(value, bytes | bytearray) and not value:
        raise BadRequest(f"The request's body is empty: 0 bytes. {accepted}")
    return value


def value_of(request: Request, names: Iterable[str], accepted: str) -> Any:
    """The input of a request, decoded where it is JSON or text, else bytes.

    gRPC carries no content type, so bytes without one are looked at. Raises BadRequest, or
    UnsupportedContent for a content type that says something else.
    """
    value = input_of(request, names, accepted)
    if not isinstance(value, bytes | bytearray):
        return value
    kind = request.content_type
    if kind == JSON or kind.endswith("+json"):
        return parse_json(value, accepted)
    if kind.startswith("text/"):
        return as_text(value)
    if kind not in ("", BINARY, *FORMS, "application/x-npy"):
        raise UnsupportedContent(f"The content type {kind[:60]!r} is not known here. {accepted}")
    return value


def looks_like_json(value: bytes | bytearray) -> bool:
    return value[:64].lstrip()[:1] in (b"{", b"[", b'"')


def as_text(value: bytes | bytearray) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(
            f"The text is not UTF-8: {error.reason} at byte {error.start}. Send it as UTF-8."
        ) from error


def from_base64(text: str, accepted: str) -> bytes:
    if text.startswith("data:"):  # as browsers write it: data:image/png;base64,…
        text = text.partition(",")[2]
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"The input is no valid base64: {error}. {accepted}") from error
    if not data:
        raise BadRequest(f"The input is an empty string. {accepted}")
    return data


def json_type(value: Any) -> str:
    """As JSON calls it."""
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def check_count(rows: int, what: str) -> None:
    if not rows:
        raise BadRequest(f"The list of {what} is empty. Send at least one.")
    if rows > MAX_ROWS:
        raise TooManyRows(
            f"The request has {rows:,} {what}; at most {MAX_ROWS:,} are accepted in one. "
            "Send several requests."
        )
