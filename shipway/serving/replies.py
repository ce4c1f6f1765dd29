"""Replies, independent of the server: answers and errors, as JSON or as v2 tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from shipway.errors import ShipwayError
from shipway.payloads.errors import DeadlinePassed, InternalError
from shipway.payloads.request import JSON
from shipway.serving.statuses import STATUS_OF, status_of

RETRY_AFTER_S = 1
"""The least that the header can say. By then a queue of 100 has moved on."""


@dataclass(slots=True)
class Reply:
    """What a client gets for one request."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": JSON})


def encode(value: Any) -> bytes:
    """A value as compact JSON. Arrays of numbers are written as lists."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def refusal(error: ShipwayError, *, v2: bool = False) -> Reply:
    """The reply for an error, in the form of TorchServe's own errors, and of v2's for a v2 request.

    gRPC drops the status, so the body alone must tell an error from an answer. The error loses its
    traceback, and what caused it.
    """
    status = status_of(error) or STATUS_OF[InternalError]
    body = {"code": status, "type": type(error).__name__, "message": str(error)}
    reply = Reply(b"", status)
    if isinstance(error, DeadlinePassed):
        reply.headers["Retry-After"] = str(RETRY_AFTER_S)
        v2 = True  # the request was not read, so it may be either
    if v2:
        body["error"] = str(error)
    reply.body = encode(body)
    # Its frames hold the request, which holds it: a circle that may keep megabytes until Python
    # looks for such circles.
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return reply


def refused_by_server(
    status: int, kind: str, message: str, headers: Mapping[str, str] | None = None
) -> Reply:
    """The reply to a request that no handler sees, in the form of TorchServe's own errors."""
    reply = Reply(encode({"code": status, "type": kind, "message": message}), status)
    reply.headers |= headers or {}
    return reply


def server_timing(milliseconds: Mapping[str, float]) -> str:
    """The value of a Server-Timing header (w3.org/TR/server-timing), durations in milliseconds."""
    return ", ".join(f"{name};dur={each:.3f}" for name, each in milliseconds.items())
