"""Envoy's own errors, in the form of TorchServe's."""

from typing import Any

from shipway.front.key_filters import METADATA

ERROR_TYPES = {
    400: "BadRequestException",
    401: "InvalidKeyException",
    404: "ResourceNotFoundException",
    408: "RequestTimeoutException",
    413: "PayloadTooLargeException",
    426: "BadRequestException",
    429: "TooManyRequestsException",
    431: "BadRequestException",
    503: "ServiceUnavailableException",
    504: "GatewayTimeoutException",
}
"""The `type` of errors that Envoy answers with, by their status. Where TorchServe has the same
error, its word."""


NO_TOKEN = (
    "The inference token or key is missing or wrong. Send the header Authorization: Bearer TOKEN."
)
TOO_OFTEN = (
    f"The key %DYNAMIC_METADATA({METADATA}:key)% has reached its limit of requests per second. "
    "Send the request again after a second."
)

UNREACHED = (
    "No worker could be reached. Send the request again after a second: another worker answers it "
    "then, or you are told that the version is not registered any more."
)


def local_replies() -> dict[str, Any]:
    """The configuration of Envoy's own answers over HTTP (local_reply_config)."""
    others = [status for status in ERROR_TYPES if status not in (401, 429, 503)]
    return {
        "mappers": [
            # No connection could be made, or the version's workers left while the request waited.
            _unreached(_mapper(503, 503, _json(503, UNREACHED), {"retry-after": "1"})),
            _mapper(200, 200, _text("%LOCAL_REPLY_BODY%")),  # not an error
            _mapper(403, 401, _json(401, NO_TOKEN), {"www-authenticate": "Bearer"}),
            # A second gives a key at least one more request.
            _mapper(429, 429, _json(429, TOO_OFTEN), {"retry-after": "1"}),
            _mapper(503, 503, _json(503, "%LOCAL_REPLY_BODY%"), {"retry-after": "1"}),
            # A body that Envoy does not keep for another attempt.
            _mapper(507, 503, _json(503, "The worker ended. Send it again."), {"retry-after": "1"}),
            *(_mapper(status, status, _json(status, "%LOCAL_REPLY_BODY%")) for status in others),
        ],
        "body_format": _json(500, "%LOCAL_REPLY_BODY%"),
    }


def grpc_local_replies(max_body_bytes: int) -> dict[str, Any]:
    """The same for gRPC, where Envoy makes a status and a message of them."""
    too_large = f"The message has more than {max_body_bytes:,} bytes, the limit of this server."
    return {
        "mappers": [
            _unreached(_mapper(503, 503, _text(UNREACHED))),
            _mapper(403, 401, _text(NO_TOKEN)),
            _mapper(413, 413, _text(too_large), {"grpc-status": "8"}),  # RESOURCE_EXHAUSTED
            _mapper(429, 429, _text(TOO_OFTEN)),
        ]
    }


def _unreached(mapper: dict[str, Any]) -> dict[str, Any]:
    """The same for answers whose reason is that nothing was reached, by Envoy's response flags."""
    return mapper | {"filter": {"response_flag_filter": {"flags": ["UF", "UH", "NC"]}}}


def _mapper(
    found: int, status: int, body: dict[str, Any], headers: dict[str, str] | None = None
) -> dict[str, Any]:
    compared = {"default_value": found, "runtime_key": f"status.{found}"}
    added = [
        {
            "header": {"key": key, "value": value},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }
        for key, value in (headers or {}).items()
    ]
    return {
        "filter": {"status_code_filter": {"comparison": {"op": "EQ", "value": compared}}},
        "status_code": status,
        "headers_to_add": added,
        "body_format_override": body,
    }


def _text(message: str) -> dict[str, Any]:
    return {"text_format_source": {"inline_string": message}}


def _json(status: int, message: str) -> dict[str, Any]:
    kind = ERROR_TYPES.get(status, "InternalServerException")
    return {"json_format": {"code": "%RESPONSE_CODE%", "type": kind, "message": message}}
