"""Reads the errors of TorchServe and of its handlers from the answers of each API."""

import json
from typing import Any

import httpx

from shipway.engines.errors import Refused
from shipway.serving.statuses import REQUEST_ID, STATUS_OF

TOKEN_REFUSED = "InvalidKeyException"
"""The type of the error for a token that is wrong or missing."""
ANSWERED_BY_SERVER = {
    400: f"{TOKEN_REFUSED} for a token that is wrong or missing",
    401: f"{TOKEN_REFUSED} for a token or key that is wrong or missing, by the front",
    404: "ModelNotFoundException, ModelVersionNotFoundException",
    429: "TooManyRequestsException for a named key over its limit",
    500: "a Java exception, for a form that cannot be parsed",
    503: "ServiceUnavailableException if the queue is full or there is no worker",
}
"""The errors of requests that reach no handler, by status."""


def as_refusal(value: Any) -> Refused | None:
    """The error in a parsed answer, in TorchServe's form, which our handlers use too. None if it is
    not an error."""
    match value:
        case {"code": int(code), "type": str(type), "message": str(message)} if code >= 400:
            return Refused(message, code=code, type=type)
    return None


def refusal_in(body: bytes) -> Refused | None:
    """The error in the bytes of an answer; None if it is not an error."""
    return as_refusal(parsed(body))


def http_refusal(answer: httpx.Response) -> Refused:
    """The error in an unsuccessful HTTP answer."""
    return refusal_in(answer.content) or Refused(
        f"HTTP {answer.status_code} {answer.text.strip()}",
        code=answer.status_code,
        type=answer.reason_phrase,
    )


def grpc_refusal(status: str, details: str) -> Refused:
    """The error of a failed gRPC call.

    TorchServe's status is INTERNAL for nearly everything, even for an unknown model. The Java class
    on the last line of the details says what happened, or the class of this project's error.
    """
    message, _, java_class = details.rpartition("\n")
    kind = java_class.rpartition(".")[2] if message else ""
    codes = {error.__name__: code for error, code in STATUS_OF.items()}
    otherwise = 503 if status == "UNAVAILABLE" else 500  # which the front and its workers say
    return Refused(message or details, code=codes.get(kind, otherwise), type=kind or status)


def is_a_reply(error: Any) -> bool:
    """Whether the front or a worker gave the error of a gRPC call, since each of their replies has
    the request's id. If not, nobody answered."""
    metadata = [*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())]
    return any(key == REQUEST_ID for key, _ in metadata)


def management_refusal(answer: httpx.Response) -> Refused:
    """The error in an answer of the management API."""
    try:
        error = answer.json()
        return Refused(error["message"], code=error["code"], type=error["type"])
    except (ValueError, KeyError, TypeError):
        return Refused(
            answer.text.strip() or f"HTTP {answer.status_code} without a message",
            code=answer.status_code,
            type=answer.reason_phrase,
        )


def parsed(content: bytes) -> Any:
    """The value of JSON, or anything else as text."""
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")
