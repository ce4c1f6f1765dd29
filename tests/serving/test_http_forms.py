"""Fields of a query, of forms, and of bodies that are called forms and are none."""

import pytest

from shipway.payloads.errors import BadRequest
from shipway.serving.http_forms import MOST_FIELDS, fields_of

URLENCODED = "application/x-www-form-urlencoded"
FORM = "multipart/form-data; boundary=xyz"


def part(name: str, value: bytes, headers: str = "") -> bytes:
    disposition = f'--xyz\r\nContent-Disposition: form-data; name="{name}"{headers}\r\n\r\n'
    return disposition.encode() + value + b"\r\n"


END = b"--xyz--\r\n"


def test_a_plain_body_is_one_field_beside_those_of_the_query():
    assert fields_of("", "", b"abc") == {"body": b"abc"}
    assert fields_of("a=1&b=%20c", "image/png", b"abc") == {"a": b"1", "b": b" c", "body": b"abc"}


def test_a_query_of_too_many_fields_is_refused():
    with pytest.raises(BadRequest, match="more than 1,000 fields"):
        fields_of("a=1&" * MOST_FIELDS, "", b"")


def test_the_fields_of_a_form_keep_their_names_and_bytes():
    image = bytes(range(256)) * 10
    file = '; filename="a \\"b\\".png"\r\nContent-Type: image/png'
    body = part("image", image, file) + part("größe", b"") + END
    assert fields_of("", FORM, body) == {"image": image, "größe": b""}


@pytest.mark.parametrize(
    ("content_type", "body", "reason"),
    [
        ("multipart/form-data", END, "has no boundary"),
        (FORM, b"no part", "broken"),
        (FORM, part("a", b"b"), "before its closing boundary"),
        (FORM, part("a", b"b")[:-8], "before its closing boundary"),
        (FORM, b"--xyz\r\nno colon\r\n\r\nb\r\n" + END, "broken"),
        (FORM, part("a", b"1") + part("a", b"2") + END, "several fields 'a'"),
        (FORM, part("", b"1") + END, "has no name"),
        (URLENCODED, b"a=1&a=2", "several fields 'a'"),
        (FORM, b"".join(part(str(n), b"") for n in range(MOST_FIELDS + 1)) + END, "more than"),
    ],
)
def test_a_broken_form_is_refused(content_type, body, reason):
    with pytest.raises(BadRequest, match=reason):
        fields_of("", content_type, body)


def test_an_urlencoded_form_is_decoded():
    assert fields_of("", URLENCODED, b"a=1+2&b=%C3%A9%00&c=") == {
        "a": b"1 2",
        "b": b"\xc3\xa9\0",
        "c": b"",
    }


@pytest.mark.parametrize(
    "body", [b"\xff\xd8\xff\xe0 JPEG=", b'{"a": 1}', b"a text = b", b"aGVsbG8=", b"aGVsbG8==", b""]
)
def test_what_curl_calls_a_form_and_is_none_is_a_body(body):
    assert fields_of("", URLENCODED, body) == {"body": body}


def test_a_query_with_two_fields_of_one_name_is_refused():
    with pytest.raises(BadRequest, match="The query has several fields 'a'"):
        fields_of("a=1&a=2", "", b"")


@pytest.mark.parametrize(
    ("body", "text"),
    [(b"text=100% sure", "100% sure"), (b"text=a b", "a b"), ("text=größer".encode(), "größer")],
)
def test_a_form_that_should_have_been_encoded_is_read_as_it_is_meant(body, text):
    assert fields_of("", URLENCODED, body) == {"text": text.encode()}
