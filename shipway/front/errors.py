"""Envoy's own errors, in the form of TorchServe's."""

from typing import Any

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


NO_TOKEN = "The inference token is missing or wrong. Send the header Authorization: Bearer TOKEN."


def local_replies() -> dict[str, Any]:
    """The configuration of Envoy's own answers over HTTP (local_reply_config)."""
    others = [status for status in ERROR_TYPES if status not in (401, 503)]
    return {
        "mappers": [
            _mapper(403, 401, _json(401, NO_TOKEN), {"www-authenticate": "Bearer"}),
            _mapper(503, 503, _json(503, "%LOCAL_REPLY_BODY%"), {"retry-after": "1"}),
            *(_mapper(status, status, _json(status, "%LOCAL_REPLY_BODY%")) for status in others),
        ],
        "body_format": _json(500, "%LOCAL_REPLY_BODY%"),
    }


def grpc_local_replies() -> dict[str, Any]:
    """The same for gRPC, where Envoy makes a status and a message of them."""
    return {"mappers": [_mapper(403, 401, {"text_format_source": {"inline_string": NO_TOKEN}})]}


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


def _json(status: int, message: str) -> dict[str, Any]:
    kind = ERROR_TYPES.get(status, "InternalServerException")
    return {"json_format": {"code": "%RESPONSE_CODE%", "type": kind, "message": message}}
