"""The fields of an HTTP request, as TorchServe passes them to a handler: of its query, and of its
body, which may be a form."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from shipway.payloads.errors import BadRequest
from shipway.payloads.request import FORMS

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MOST_FIELDS = 1000
"""Of a form. Handlers read one, and a sender of a million fields should not cost a second."""
_MULTIPART, _URLENCODED = FORMS
_STARTS_A_FORM = re.compile(rb"[A-Za-z0-9_.%+-]{1,64}=")


def fields_of(query: str, content_type: str, body: bytes) -> Mapping[str, bytes]:
    """The fields of a request by name; a body that is no form is the field `body`.

    `content_type` is the whole header. Raises BadRequest for a form that is broken.
    """
    fields: dict[str, bytes] = {}
    if query:
        if query.count("&") >= MOST_FIELDS:
            raise BadRequest(f"The query has more than {MOST_FIELDS:,} fields. Send fewer.")
        fields |= _once(((name, value.encode()) for name, value in parse_qsl(query)), "The query")
    kind = content_type.partition(";")[0].strip().lower()
    if kind == _MULTIPART:
        return fields | _multipart(content_type, body)
    # curl calls whatever it sends a form, unless it is told otherwise.
    if kind == _URLENCODED and (form := _urlencoded(body)):
        return fields | form
    fields["body"] = body
    return fields


def _urlencoded(body: bytes) -> dict[str, bytes]:
    """The fields of a form; none for bytes that are no form. What is not percent-encoded and should
    be stands for itself, as WHATWG's URL standard has it (5.1)."""
    if not _STARTS_A_FORM.match(body):
        return {}
    pairs = [pair.partition(b"=") for pair in body.split(b"&", MOST_FIELDS)]
    # "aGVsbG8=" is base64 rather than a field without a value.
    if len(pairs) == 1 and not pairs[0][2].strip(b"="):
        return {}
    return _once(
        (
            (_unquoted(name).decode("utf-8", "replace"), _unquoted(value))
            for name, _, value in pairs
        ),
        "The form",
    )


def _unquoted(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def _once(pairs: Iterable[tuple[str, bytes]], holder: str) -> dict[str, bytes]:
    """The fields by name. Raises BadRequest for two of one name."""
    fields: dict[str, bytes] = {}
    for name, value in pairs:
        _add(fields, name, value, holder)
    return fields


def _add(fields: dict[str, bytes], name: str, value: bytes, holder: str) -> None:
    """Raises BadRequest for a second field of one name, since only one would be read."""
    if name in fields:
        raise BadRequest(f"{holder} has several fields {name[:40]!r}. Send one input in a request.")
    fields[name] = value


def _multipart(content_type: str, body: bytes) -> dict[str, bytes]:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise BadRequest(
            "The content type multipart/form-data has no boundary. Let the client library set the "
            "header."
        )
    form = _Form()
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise BadRequest(
            f"The form is broken: {error}. Send each field with its headers and the closing "
            "boundary."
        ) from error
    if not form.ended:
        raise BadRequest("The form ends before its closing boundary. Send the complete body.")
    return form.fields


class _Form:
    """Collects the fields that the parser finds."""

    def __init__(self) -> None:
        self.fields: dict[str, bytes] = {}
        self.ended = False
        self._header, self._value = b"", b""
        self._name = ""
        self._parts: list[bytes] = []

    def callbacks(self) -> "MultipartCallbacks":
        """What the parser calls, by its names."""
        return {
            "on_part_begin": self._begin,
            "on_part_data": lambda data, start, end: self._parts.append(data[start:end]),
            "on_part_end": self._end,
            "on_header_begin": self._begin_header,
            "on_header_field": self._add_field,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_end": self._end_form,
        }

    def _begin(self) -> None:
        self._name, self._parts = "", []

    def _begin_header(self) -> None:
        self._header, self._value = b"", b""

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._name = options.get(b"name", b"").decode("utf-8", "replace")

    def _end(self) -> None:
        if len(self.fields) >= MOST_FIELDS:
            raise BadRequest(f"The form has more than {MOST_FIELDS:,} fields. Send fewer.")
        if not self._name:
            raise BadRequest("A part of the form has no name. Send each field with its name.")
        _add(self.fields, self._name, b"".join(self._parts), "The form")

    def _end_form(self) -> None:
        self.ended = True
