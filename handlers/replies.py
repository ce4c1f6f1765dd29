"""Outputs and errors to TorchServe replies, row by row."""

import json
from typing import Any, Protocol

from handlers.errors import PHRASE_OF, STATUS_OF
from shipway.errors import ShipwayError

JSON = "application/json"


class RowContext(Protocol):
    """The part of TorchServe's context that replies need."""

    def set_response_status(self, code: int, phrase: str, idx: int) -> None: ...

    def set_response_content_type(self, idx: int, value: str) -> None: ...


def encode(value: Any) -> bytes:
    """Compact JSON. TorchServe would indent whatever is not bytes."""
    return json.dumps(value, separators=(",", ":")).encode()


def reply(context: RowContext, row: int, value: Any) -> bytes:
    context.set_response_content_type(row, JSON)
    return encode(value)


def refuse(context: RowContext, row: int, error: ShipwayError) -> bytes:
    """A 4xx for one row, in the shape of TorchServe's own errors.

    gRPC drops the status, so the body alone must tell an error from an answer.
    """
    status = STATUS_OF[type(error)]
    context.set_response_status(status, PHRASE_OF[status], row)
    return reply(
        context, row, {"code": status, "type": type(error).__name__, "message": str(error)}
    )
