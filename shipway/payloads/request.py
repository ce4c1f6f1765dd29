"""A request in one form, whether it came over HTTP or gRPC and from whichever server."""

import base64
import binascii
import codecs
import gc
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from shipway.payloads.errors import BadRequest, TooManyRows, TooManyValues, UnsupportedContent

MAX_ROWS = 1024
"""The most rows of one request. More would keep every other request waiting."""
MAX_DEPTH = 1024
"""The deepest nesting of lists and objects in JSON: orjson's own limit."""
MAX_JSON_VALUES = 1_500_000
"""Of one JSON text, a list or object counting for two and a key for three, by what orjson takes for
them: at most 0.2 s, in which it holds the interpreter's lock and nobody else is answered."""
FEW_BYTES = 2**18
"""A shorter JSON text cannot take long, and is not counted."""
JSON = "application/json"
BINARY = "application/octet-stream"
HEADER_LENGTH = "inference-header-content-length"
"""The header of a request that is v2 with tensors in binary behind its JSON."""
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
"""Content types whose fields the server has separated already."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a batch."""

    fields: Mapping[str, Any]
    """The input by field name: a plain body is the field `body`, a form's fields keep their names.
    Values are bytes, or what the server decoded from JSON or text."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """By name in lower case. Empty over gRPC."""
    id: str = ""
    """The server's request id, for logs, metrics and traces."""
    protocol: str = ""
    """"v1" for KServe's first protocol. Empty: its form tells whether it is v2 or native."""

    def header(self, name: str) -> str:
        """The value of a header, by its name in lower case, or over gRPC, whose metadata TorchServe
        does not pass on, of the field of that name. Empty if there is neither."""
        value = self.headers.get(name) if self.headers else self.fields.get(name)
        if isinstance(value, bytes | bytearray):
            return value.decode("ascii", "replace")
        return value if isinstance(value, str) else ""

    @property
    def content_type(self) -> str:
        """Without parameters, in lower case; empty if the request names none."""
        return _kind_of(self.headers.get("content-type", ""))

    @property
    def charset(self) -> str:
        """The encoding that the content type names; UTF-8 if it names none."""
        for parameter in self.headers.get("content-type", "").split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                return value.strip().strip('"')
        return "utf-8"

    @property
    def wants_binary(self) -> bool:
        """Whether the reply should be v2 tensors in binary: the Accept header names that type, and
        no other that it prefers (RFC 9110, 12.5.1)."""
        return self.prefers(BINARY)

    def prefers(self, kind: str) -> bool:
        """Whether the Accept header names a content type, and prefers it to JSON."""
        accept = self.headers.get("accept", "")
        return kind in accept.lower() and _wants(accept, kind) > _wants(accept, JSON)


@lru_cache(maxsize=64)  # asked several times of each request, and nearly all say the same
def _kind_of(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _wants(accept: str, kind: str) -> float:
    """The weight of a content type that the Accept header names; 0 for one that it does not."""
    for each in accept.split(","):
        name, *parameters = (part.strip() for part in each.split(";"))
        if name.lower() == kind:
            weights = [part[2:] for part in parameters if part[:2].lower() == "q="]
            try:
                return float(weights[0]) if weights else 1.0
            except ValueError:
                return 1.0
    return 0.0


def shown(value: Any, most: int = 40) -> str:
    """A value of the request in a message: at most `most` characters, and never a whole list."""
    if isinstance(value, list | dict):
        return f"a JSON {json_type(value)}"
    return str(value)[:most]


def only_field(fields: Mapping[str, Any], names: Iterable[str], holder: str, accepted: str) -> Any:
    """The value of the one field among `names`; others are ignored. Raises BadRequest if there is
    none, or several.

    `holder` starts the message, such as "The request"; `accepted` ends it with what to send.
    """
    known = [name for name in names if name in fields]
    if len(known) == 1:
        return fields[known[0]]
    found = ", ".join(f"`{str(name)[:40]}`" for name in list(fields)[:5]) or "none"
    raise BadRequest(
        f"{holder} must have exactly one field with the input; its fields are {found}. {accepted}"
    )


def only_key(value: Mapping[str, Any], names: Iterable[str], accepted: str) -> Any:
    """The value of the one key of a JSON object, which is among `names`. Raises BadRequest for an
    object that has others beside it: nothing that a client says is ignored."""
    found = only_field(value, names, "The JSON object", accepted)
    if len(value) > 1:
        others = ", ".join(f"`{each[:40]}`" for each in list(value)[:6] if each not in names)
        raise BadRequest(f"The JSON object has fields that have no meaning: {others}. {accepted}")
    return found


def parse_json(text: bytes | bytearray | str, accepted: str) -> Any:
    """The value of a JSON text, in which NaN is an error, as in RFC 8259. Raises BadRequest, or
    TooManyValues.

    A byte order mark before it is ignored, as RFC 8259 allows: some editors write one.
    """
    if isinstance(text, bytes | bytearray):
        text = text.removeprefix(codecs.BOM_UTF8)
    try:
        if len(text) < FEW_BYTES:
            return orjson.loads(text)
        _check_values(text.encode() if isinstance(text, str) else text)
        with _collections:
            return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if "depth limit" in str(error):
            raise BadRequest(
                f"The JSON nests lists and objects more than {MAX_DEPTH:,} deep. {accepted}"
            ) from error
        raise BadRequest(f"The request is not valid JSON: {error}. {accepted}") from error


def _check_values(text: bytes | bytearray) -> None:
    """Raises TooManyValues. Nothing is parsed; what is like JSON in strings counts, too."""
    values = text.count(b",") + 2 * (text.count(b"[") + text.count(b"{")) + 3 * text.count(b'":')
    if values > MAX_JSON_VALUES:
        raise TooManyValues(
            f"The JSON has some {values:,} values, a list counting for two and a key for three; at "
            f"most {MAX_JSON_VALUES:,} are read. Send fewer rows in a request, or send tensors in "
            "binary, as the Open Inference Protocol has them."
        )


class _Collections:
    """While it is entered, by however many threads, Python looks for no cycles among objects: it
    would look through all lists of a large JSON text again and again, for four fifths of the time
    that parsing takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._enabled = False

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._enabled = gc.isenabled()
                gc.disable()
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._enabled:
                gc.enable()


_collections = _Collections()


def input_of(request: Request, names: Iterable[str], accepted: str) -> Any:
    """The value of the one field with the input, unchanged. Raises BadRequest if it is missing or
    empty."""
    try:
        value = only_field(request.fields, names, "The request", accepted)
    except BadRequest:
        if kind := request.content_type:
            only_field(
                request.fields, names, f"The request, of content type {kind[:60]!r},", accepted
            )
        raise
    if isinstance(value, bytes | bytearray) and not value:
        raise BadRequest(f"The request body is empty. {accepted}")
    return value


def value_of(request: Request, names: Iterable[str], accepted: str) -> Any:
    """The input of a request: decoded if its content type is JSON or text, otherwise bytes.

    gRPC carries no content type, so bytes without one are returned as they are. Raises BadRequest,
    or UnsupportedContent for any other content type.
    """
    value = input_of(request, names, accepted)
    if not isinstance(value, bytes | bytearray):
        return value
    kind = request.content_type
    if kind == JSON or kind.endswith("+json"):
        return parse_json(value, accepted)
    if kind.startswith("text/"):
        return as_text(value, request.charset)
    if kind not in ("", BINARY, *FORMS, "application/x-npy"):
        raise UnsupportedContent(f"Unsupported content type {kind[:60]!r}. {accepted}")
    return value


def looks_like_json(value: bytes | bytearray) -> bool:
    """Whether bytes start as a JSON object, list or string does."""
    return value[:64].removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"{", b"[", b'"')


CHARSETS = (
    "utf-8",
    "ascii",
    "iso8859-1",
    "iso8859-15",
    "cp1252",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
)
"""Encodings of texts, by Python's names of them."""


def as_text(value: bytes | bytearray, charset: str = "utf-8") -> str:
    """Bytes as text, without a byte order mark. Raises BadRequest unless they are in that encoding,
    and UnsupportedContent for one that is not among CHARSETS."""
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        name = ""
    if name not in CHARSETS:
        raise UnsupportedContent(f"Unsupported charset {charset[:40]!r}. Send the text as UTF-8.")
    try:
        return value.decode(name).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        shown_name = "UTF-8" if name == "utf-8" else name
        raise BadRequest(
            f"The text is not {shown_name}: {error.reason} at byte {error.start}. Send it as UTF-8."
        ) from error


_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def from_base64(text: str, accepted: str) -> bytes:
    """The bytes of a base64 text or of a data URL. Raises BadRequest if it is invalid or empty.

    Line breaks are ignored, as MIME has them (RFC 2045, 6.8), and `-` and `_` stand for `+` and `/`
    (RFC 4648, 5), with padding or without.
    """
    if text.startswith("data:"):  # as browsers write it: data:image/png;base64,…
        text = text.partition(",")[2]
    try:
        packed = text.encode("ascii").translate(_URL_SAFE, b" \t\r\n")
        data = base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"The input is not valid base64: {error}. {accepted}") from error
    if not data:
        raise BadRequest(f"The input is an empty string. {accepted}")
    return data


def json_type(value: Any) -> str:
    """The type of a decoded value, as JSON names it. Bytes were an object, {"b64": …}."""
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    names[bytes] = "object"
    return names.get(type(value), "number")


def check_count(rows: int, what: str) -> None:
    """Raises BadRequest for no rows, TooManyRows for more than MAX_ROWS. `what` names them in the
    message: "texts"."""
    if not rows:
        raise BadRequest(f"The list of {what} is empty. Send at least one.")
    if rows > MAX_ROWS:
        raise TooManyRows(
            f"The request has {rows:,} {what}, and at most {MAX_ROWS:,} are accepted. "
            "Send several requests."
        )
