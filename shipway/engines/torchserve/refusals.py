"""What TorchServe and the handlers behind it say no with, over each of their APIs."""

import json
from typing import Any

import httpx

from shipway.engines.errors import Refused

ANSWERED_BY_TORCHSERVE = {
    400: "InvalidKeyException for a token that is wrong or missing",
    404: "ModelNotFoundException, ModelVersionNotFoundException",
    500: "an exception of Java's for a form that cannot be taken apart",
    503: "ServiceUnavailableException where the queue is full or there is no worker",
}
"""By status, what TorchServe itself answers to a request that never reaches a handler."""


def as_refusal(value: Any) -> Refused | None:
    """The error in an answer: the shape is TorchServe's, and the project's handlers keep to it."""
    match value:
        case {"code": int(code), "type": str(type), "message": str(message)} if code >= 400:
            return Refused(message, code=code, type=type)
    return None


def refusal_in(body: bytes) -> Refused | None:
    """The error in an answer's bytes."""
    return as_refusal(parsed(body))


def http_refusal(answer: httpx.Response) -> Refused:
    """What an answer over HTTP that is no success says."""
    return refusal_in(answer.content) or Refused(
        f"HTTP {answer.status_code} {answer.text.strip()}",
        code=answer.status_code,
        type=answer.reason_phrase,
    )


def grpc_refusal(status: str, details: str) -> Refused:
    """What a failed call says. TorchServe says INTERNAL to nearly everything, a model that is not
    there included; what happened is in the Java class, which it puts on the last line."""
    message, _, java_class = details.rpartition("\n")
    kind = java_class.rpartition(".")[2] if message else ""
    return Refused(message or details, code=500, type=kind or status)


def management_refusal(answer: httpx.Response) -> Refused:
    """What the management API says no with."""
    try:
        said = answer.json()
        return Refused(said["message"], code=said["code"], type=said["type"])
    except (ValueError, KeyError, TypeError):
        return Refused(
            answer.text.strip() or f"HTTP {answer.status_code}, without a reason",
            code=answer.status_code,
            type=answer.reason_phrase,
        )


def parsed(content: bytes) -> Any:
    """JSON as what it says, anything else as text."""
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")
