"""gRPC statuses and messages of replies."""

from urllib.parse import unquote

import pytest

from shipway.payloads.errors import BadTensor, DeadlinePassed
from shipway.serving import grpc_calls
from shipway.serving.grpc_calls import CODE_OF
from shipway.serving.replies import Reply, refusal
from shipway.serving.statuses import PHRASE_OF


def test_every_status_of_an_error_has_a_code():
    assert set(PHRASE_OF) - {200, 431} <= set(CODE_OF)


def test_an_answer_is_its_message():
    reply = grpc_calls.answered(b"\x08\x01")
    assert (reply.status, reply.body, reply.headers["x-grpc-status"]) == (200, b"\x08\x01", "0")
    assert reply.headers["content-type"] == "application/x-protobuf"


@pytest.mark.parametrize(
    ("error", "code"), [(BadTensor("wrong: 100% é\nü"), "3"), (DeadlinePassed("late"), "4")]
)
def test_an_error_has_its_code_and_its_message(error, code):
    reply = grpc_calls.failed(refusal(error))
    assert reply.headers["x-grpc-status"] == code and reply.body == b""
    told = reply.headers["x-grpc-message"]
    assert told.isascii() and "\n" not in told
    assert unquote(told) == f"{error}\n{type(error).__name__}"


def test_headers_of_an_error_stay():
    reply = refusal(DeadlinePassed("late"))
    assert grpc_calls.failed(reply).headers["Retry-After"] == "1"


def test_a_body_that_is_no_error_of_ours_is_told_by_its_status():
    reply = grpc_calls.failed(Reply(b"<html>", 418))
    assert reply.headers["x-grpc-status"] == "2"
    assert reply.headers["x-grpc-message"] == "HTTP 418"
