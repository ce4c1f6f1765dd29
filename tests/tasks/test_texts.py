import json

import numpy as np
import pytest

from shipway.payloads.errors import BadRequest, BadTensor
from shipway.payloads.request import Request
from shipway.runtime.model import Model
from shipway.tasks.text_classification import TextClassification
from shipway.tasks.texts import parse_loosely

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def task(tiny_classifier) -> TextClassification:
    return TextClassification(Model(tiny_classifier))


@pytest.mark.parametrize(
    ("request_", "texts", "many"),
    [
        (Request({"body": b"a text"}, {"content-type": "text/plain"}), ["a text"], False),
        (Request({"body": b'"a text"'}, JSON), ["a text"], False),
        (Request({"body": b'["one", "two"]'}, JSON), ["one", "two"], True),
        (Request({"body": json.dumps({"text": ["one"]}).encode()}, JSON), ["one"], True),
        (Request({"text": b"from a form"}), ["from a form"], False),
    ],
)
def test_texts_come_in_several_forms(task, request_, texts, many):
    inputs = task.parse(request_)
    assert (list(inputs.items), inputs.many) == (texts, many)


@pytest.mark.parametrize("body", [b"[1]", b'{"text": null}', b"[]"])
def test_what_is_not_a_text_is_refused(task, body):
    with pytest.raises(BadRequest):
        task.parse(Request({"body": body}, JSON))


def test_a_text_becomes_ids_and_a_mask_of_ones_with_its_notes(task):
    [decoded] = task.decode(["one two three"])
    ids, mask = decoded.row
    assert (ids.dtype, mask.dtype) == (np.int64, np.int64)
    assert mask.tolist() == [1] * len(ids)
    assert decoded.note == {"tokens": len(ids), "truncated": False}


def test_a_text_that_is_no_text_becomes_its_error_and_the_others_are_decoded(task):
    bad, good = task.decode(["half \ud800", "one two"])
    assert "surrogate" in str(bad)
    assert good.note["tokens"] > 0


@pytest.mark.parametrize(
    ("ids", "mask", "says"),
    [
        ([[-1, 0]], [[1, 1]], "outside of the vocabulary"),
        ([[10**6, 0]], [[1, 1]], "outside of the vocabulary"),
        ([[0, 0]], [[1, 2]], "is not a mask"),
        ([[0, 0]], [[0, 0]], "is not a mask"),
    ],
)
def test_ids_and_masks_that_a_program_must_not_get_are_refused(task, ids, mask, says):
    task.check((np.array([[0, 0]]), np.array([[1, 0]])))
    with pytest.raises(BadTensor, match=says):
        task.check((np.array(ids), np.array(mask)))


def test_bytes_that_only_look_like_json_are_a_text():
    assert parse_loosely(b"[a text in brackets]") == "[a text in brackets]"
    assert parse_loosely(b'["a", "b"]') == ["a", "b"]
    with pytest.raises(BadRequest, match="UTF-8"):
        parse_loosely(b"\xff")
