import json

import numpy as np
import pytest

from shipway.payloads.errors import BadRequest, BadTensor, DeadlinePassed
from shipway.serving.replies import encode, refusal, server_timing


def test_arrays_are_written_as_lists():
    assert encode({"a": np.arange(2, dtype="float32")}) == b'{"a":[0.0,1.0]}'


@pytest.mark.parametrize("v2", [False, True])
def test_an_error_has_its_status_its_class_and_its_message(v2):
    reply = refusal(BadTensor("It is wrong."), v2=v2)
    expected = {"code": 400, "type": "BadTensor", "message": "It is wrong."}
    assert reply.status == 400
    assert json.loads(reply.body) == expected | ({"error": "It is wrong."} if v2 else {})


def test_a_passed_deadline_says_when_to_send_again_in_either_protocol():
    reply = refusal(DeadlinePassed("late"))
    assert (reply.status, reply.headers["Retry-After"]) == (504, "1")
    assert json.loads(reply.body)["error"] == "late"


def test_two_replies_share_no_headers():
    refusal(BadTensor("a")).headers["x"] = "y"
    assert "x" not in refusal(BadTensor("b")).headers


def test_stages_are_written_as_the_standard_says():
    assert server_timing({"decode": 1.23456, "total": 2}) == "decode;dur=1.235, total;dur=2.000"


class BadBox(BadRequest):
    """An error that a task of one's own may raise."""


def test_an_error_of_a_known_kind_has_the_status_of_its_kind():
    reply = refusal(BadBox("The box is empty."))
    assert reply.status == 400
    assert json.loads(reply.body)["type"] == "BadBox"
