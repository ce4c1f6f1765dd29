"""Sends TorchServe's tokens with gRPC calls."""

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from shipway.engines.torchserve.tokens import Kind, Tokens, attempts, bearer


class _CallDetails(NamedTuple):
    """Implements `grpc.ClientCallDetails`, which gRPC declares as an interface only."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class TokenInterceptor(grpc.UnaryUnaryClientInterceptor):
    """Sends a token with every call. If it has expired, renews it and repeats the call.

    This is not a `grpc.AuthMetadataPlugin` for two reasons. gRPC does not send a plugin's
    credentials over a channel without TLS ("does not have a sufficient security level", grpcio
    1.85); its local credentials work on the loopback address only. And a plugin does not see the
    answer, so it cannot know that a token has expired.
    """

    def __init__(self, tokens: Tokens, kind: Kind) -> None:
        self._tokens = tokens
        self._kind: Kind = kind

    def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Any], client_call_details: Any, request: Any
    ) -> Any:
        """Called by gRPC. Raises Refused or an error of httpx if a renewal fails."""
        token = self._tokens.get(self._kind)
        call = continuation(_with_token(client_call_details, token), request)
        if not _is_token_refused(call):
            return call
        self._tokens.renew(self._kind, refused=token)
        for _ in attempts():
            renewed = self._tokens.get(self._kind)
            call = continuation(_with_token(client_call_details, renewed), request)
            if not _is_token_refused(call):
                break
        return call


def _is_token_refused(call: Any) -> bool:
    # TorchServe's code, and that of the front.
    codes = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)
    return call.code() in codes


def _with_token(details: Any, token: str | None) -> _CallDetails:
    return _CallDetails(
        method=details.method,
        timeout=details.timeout,
        metadata=[*(details.metadata or ()), *bearer(token).items()],
        credentials=details.credentials,
        wait_for_ready=getattr(details, "wait_for_ready", None),
        compression=getattr(details, "compression", None),
    )
