import base64
import json
import time

import pytest

from shipway.payloads.errors import BadRequest
from shipway.payloads.request import MAX_DEPTH, Request, parse_json
from shipway.tasks.image_classification import image_bytes

IMAGE = b"\x89PNG not really"
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
    ],
)
def test_each_accepted_form_holds_the_same_image(row):
    assert image_bytes(Request(row)) == IMAGE


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
        ({"body": b'{"image": ["x"]}'}, "a JSON array"),
        ({"body": b'{"image": "not base64!"}'}, "not valid base64"),
        ({"body": b'{"image": ""}'}, "empty string"),
        ({"body": b'{"image": "\xc3\xa9"}'}, "not valid base64"),
        ({"body": b'{"a":' * 100_000}, "lists and objects more than 1,024 deep"),
        ({"body": [1, 2]}, "a JSON array"),
    ],
)
def test_each_wrong_form_is_told_what_was_found_and_what_is_accepted(row, complaint):
    with pytest.raises(BadRequest, match=complaint) as caught:
        image_bytes(Request(row))
    assert "Send an image file as the body" in str(caught.value)
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
