import base64
import gc
import json
import time

import pytest

from shipway.payloads.errors import BadRequest, TooManyValues, UnsupportedContent
from shipway.payloads.request import (
    MAX_DEPTH,
    MAX_JSON_VALUES,
    Request,
    as_text,
    parse_json,
    shown,
    value_of,
)
from shipway.tasks.images import image_inputs

IMAGE = b"\x89PNG not really \xfb\xff\xfe?>"
TEXT = base64.b64encode(IMAGE).decode()


@pytest.mark.parametrize(
    "row",
    [
        {"body": IMAGE},
        {"body": bytearray(IMAGE)},
        {"data": IMAGE},
        {"image": IMAGE},
        {"file": IMAGE},
        {"body": json.dumps({"image": TEXT}).encode()},
        {"body": json.dumps({"data": TEXT}).encode()},
        {"body": f'  \n{{"image": "{TEXT}"}}'.encode()},
        {"body": {"image": TEXT}},  # a server that decodes JSON itself
        {"body": json.dumps({"image": f"data:image/png;base64,{TEXT}"}).encode()},
        {"body": b"\xef\xbb\xbf" + json.dumps({"image": TEXT}).encode()},  # a byte order mark
        {"body": json.dumps(TEXT).encode()},
        {"body": json.dumps([TEXT]).encode()},
        {"body": json.dumps({"image": f"{TEXT[:8]}\r\n{TEXT[8:]}\n"}).encode()},
        {"body": json.dumps({"image": TEXT.replace("+", "-").replace("/", "_")}).encode()},
        {"body": json.dumps({"image": TEXT.rstrip("=")}).encode()},
    ],
)
def test_each_accepted_form_holds_the_same_image(row):
    assert image_inputs(Request(row)).items == [IMAGE]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"body": b""}, "The request body is empty"),
        ({}, "its fields are none"),
        ({"photo": IMAGE}, "its fields are `photo`"),
        ({"image": IMAGE, "data": IMAGE}, "its fields are `image`, `data`"),
        ({"body": b'{"image": '}, "not valid JSON"),
        ({"body": b'{"image": "\xff"}'}, "not valid JSON"),
        ({"body": b'{"picture": "x"}'}, "its fields are `picture`"),
        ({"body": b"{}"}, "its fields are none"),
        ({"body": b'{"image": 3}'}, "a JSON number"),
        ({"body": b'{"image": null}'}, "a JSON null"),
        ({"body": b'{"image": [["x"]]}'}, "a JSON array"),
        ({"body": b'{"image": []}'}, "list of images is empty"),
        ({"body": b'{"image": "aGk=", "top_k": 3}'}, "fields that have no meaning: `top_k`"),
        ({"body": b'{"image": "not base64!"}'}, "not valid base64"),
        ({"body": b'{"image": ""}'}, "empty string"),
        ({"body": b'{"image": "\xc3\xa9"}'}, "not valid base64"),
        ({"body": b'{"a":' * 100_000}, "lists and objects more than 1,024 deep"),
        ({"body": [1, 2]}, "a JSON number"),
    ],
)
def test_each_wrong_form_is_told_what_was_found_and_what_is_accepted(row, complaint):
    with pytest.raises(BadRequest, match=complaint) as caught:
        image_inputs(Request(row))
    assert "Send" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("opening", [b"[", b'{"inputs":', b'{"a": [', b'[{"datatype":'])
def test_json_a_hundred_thousand_deep_is_refused_at_once(opening):
    start = time.process_time()
    with pytest.raises(BadRequest, match="nests lists and objects more than 1,024 deep"):
        parse_json(100_000 * opening, "Accepted is anything else.")
    assert time.process_time() - start < 1
    levels = MAX_DEPTH // max(1, opening.count(b"[") + opening.count(b"{"))
    with pytest.raises(BadRequest, match="not valid JSON"):  # it only ends too early
        parse_json(levels * opening, "Accepted is anything else.")


def test_a_list_of_images_is_several():
    found = image_inputs(Request({"body": json.dumps([TEXT, TEXT]).encode()}))
    assert found.items == [IMAGE, IMAGE] and found.many


@pytest.mark.parametrize(
    ("accept", "binary"),
    [
        ("application/octet-stream", True),
        ("application/json;q=0.5, application/octet-stream", True),
        ("application/octet-stream;q=0, application/json", False),
        ("application/octet-stream;q=0.4, application/json;q=0.5", False),
        ("application/octet-stream;q=0", False),
        ("application/octet-stream-ish", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_the_weights_of_the_accept_header_decide(accept, binary):
    assert Request({}, {"accept": accept}).wants_binary is binary


@pytest.mark.parametrize(
    ("charset", "name"),
    [("", "utf-8"), ("; charset=UTF-8", "utf-8"), ('; charset="latin1"', "latin-1")]
    + [("; charset=windows-1252", "cp1252"), ("; charset=utf-16", "utf-16")],
)
def test_a_text_is_read_in_the_charset_that_its_content_type_names(charset, name):
    request = Request({"body": "größer".encode(name)}, {"content-type": f"text/plain{charset}"})
    assert value_of(request, ("body",), "") == "größer"


@pytest.mark.parametrize("charset", ["klingon", "idna", "base64", "rot13", "utf-7", "\0"])
def test_other_charsets_are_refused(charset):
    with pytest.raises(UnsupportedContent, match="Unsupported charset"):
        as_text(b"a", charset)


def test_a_field_that_is_missing_is_told_with_the_content_type_that_was_seen():
    request = Request({"a": b"1"}, {"content-type": "application/x-www-form-urlencoded"})
    with pytest.raises(BadRequest, match="of content type 'application/x-www-form-urlencoded',"):
        value_of(request, ("body",), "")


def test_nothing_of_a_request_is_shown_without_a_bound():
    assert shown("x" * 10**6) == "x" * 40
    assert shown([[[]]]) == "a JSON array" and shown({}) == "a JSON object"


@pytest.mark.parametrize(
    "text",
    [
        "[" + "1," * MAX_JSON_VALUES + "1]",
        "[" + "[]," * (MAX_JSON_VALUES // 3) + "[]]",
        "{" + ",".join(f'"{n}":1' for n in range(MAX_JSON_VALUES // 4 + 2)) + "}",
    ],
    ids=["numbers", "lists", "keys"],
)
def test_a_json_text_of_too_many_values_is_refused_before_it_is_parsed(text, monkeypatch):
    monkeypatch.setattr("shipway.payloads.request.orjson.loads", lambda _: pytest.fail("parsed"))
    for each in (text, text.encode()):
        with pytest.raises(TooManyValues, match="at most 1,500,000 are read"):
            parse_json(each, "")


def test_no_cycles_are_looked_for_while_a_large_json_text_is_parsed():
    seen = []
    gc.callbacks.append(lambda phase, info: seen.append(phase))
    try:
        assert len(parse_json("[" + "[]," * 300_000 + "[]]", "")) == 300_001
        assert len(seen) <= 2  # once it may look again
    finally:
        gc.callbacks.pop()
    assert gc.isenabled()
    gc.disable()
    try:
        parse_json("[" + "[]," * 300_000 + "[]]", "")
        assert not gc.isenabled()
    finally:
        gc.enable()
