"""gRPC calls that arrive as HTTP requests, each with a bare message, as Envoy's bridge sends them.

The bridge (envoy.filters.http.grpc_http1_reverse_bridge) takes gRPC's frame off a message and puts
it on the reply. A reply says its gRPC status in headers, which Envoy makes trailers of.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

import orjson

from shipway.payloads.request import Request
from shipway.serving.replies import Reply

CONTENT_TYPE = "application/x-protobuf"
STATUS, MESSAGE = "x-grpc-status", "x-grpc-message"
"""Headers of a reply."""
OK, UNIMPLEMENTED = 0, 12
CODE_OF = {
    400: 3,  # INVALID_ARGUMENT
    401: 16,  # UNAUTHENTICATED
    403: 7,  # PERMISSION_DENIED
    404: 5,  # NOT_FOUND
    405: UNIMPLEMENTED,
    413: 8,  # RESOURCE_EXHAUSTED, as gRPC's own libraries say it
    415: 3,
    422: 3,
    429: 8,
    499: 1,  # CANCELLED
    500: 13,  # INTERNAL
    501: UNIMPLEMENTED,
    503: 14,  # UNAVAILABLE
    504: 4,  # DEADLINE_EXCEEDED
    507: 8,
}
"""gRPC status codes (grpc.github.io/grpc/core/md_doc_statuscodes.html) by those of HTTP."""
UNKNOWN = 2


@dataclass(frozen=True, slots=True)
class Described:
    """The answer to a call that asks for no inference: a message."""

    message: bytes


class Call(Protocol):
    """One gRPC method."""

    def request(
        self, message: bytes, headers: Mapping[str, str], identity: str
    ) -> Request | Described:
        """The request in a message, or the answer, if it needs no inference.

        `headers` are those of the call, `identity` its id. Raises an error of
        `shipway.payloads.errors`.
        """
        ...

    def reply(self, reply: Reply) -> bytes:
        """The message of an answer."""
        ...


def answered(message: bytes) -> Reply:
    """The reply with a message."""
    return Reply(message, headers={"content-type": CONTENT_TYPE, STATUS: str(OK)})


def failed(reply: Reply) -> Reply:
    """The reply to a call whose request got an error over HTTP."""
    kind, message = "", ""
    try:
        said = orjson.loads(reply.body)
        kind, message = str(said["type"]), str(said["message"])
    except (orjson.JSONDecodeError, LookupError, TypeError):
        message = f"HTTP {reply.status}"
    code = CODE_OF.get(reply.status, UNKNOWN)
    # TorchServe ends its messages with a line that names the class of the error.
    told = quote(f"{message}\n{kind}" if kind else message, safe=" !#$&'()*+,/:;=?@[]\"<>")
    headers = {"content-type": CONTENT_TYPE, STATUS: str(code), MESSAGE: told}
    kept = {name: value for name, value in reply.headers.items() if name.lower() != "content-type"}
    return Reply(b"", reply.status, kept | headers)
