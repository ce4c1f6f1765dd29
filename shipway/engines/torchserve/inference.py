"""Predictions through the front door, over HTTP and over TorchServe's gRPC."""

import json
import re
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol
from urllib.parse import quote

import httpx

from shipway.engines.errors import (
    ModelNotFound,
    PredictionFailed,
    Refused,
    ServerError,
    Unreachable,
    VersionNotFound,
)
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve.management import ManagementClient
from shipway.engines.torchserve.tokens import Tokens, is_token_refused

if TYPE_CHECKING:
    import numpy as np

# Longer than a worker may take (default_response_timeout), so that TorchServe's own error arrives.
ANSWER_WITHIN_S = 150.0


class Predictor(Protocol):
    """A way of asking one server for predictions. Safe to share between threads."""

    def predict(
        self, name: str, body: bytes, *, version: str | None = None, content_type: str = ...
    ) -> Any:
        """The handler's answer to one input, parsed.

        Raises PredictionFailed if this input gets none, ModelNotFound or VersionNotFound if none
        would, Unreachable if the server does not answer.
        """

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """An answer and where its time went."""

    value: Any
    took_ms: float
    """From sending the first byte to having the last."""
    stages_ms: dict[str, float]
    """What the handler says of itself in Server-Timing; empty if it says nothing."""
    program: str
    """The program that ran; empty for a handler that is not this project's."""
    version: str
    artifact: str
    """Its digest."""
    batch: str
    """How many rows were in the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """A model's outputs for some rows, and what gave them."""

    outputs: "dict[str, np.ndarray]"
    """By name, each (rows, …)."""
    program: str


class HttpPredictor:
    """A Predictor over HTTP."""

    def __init__(self, state: StateDirectory) -> None:
        """The predictor of the server that runs from `state`; raises NoServer."""
        record = state.require_running()
        self._state = state
        self._address = record.addresses.inference
        self._max_request_bytes = record.max_request_bytes
        self._tokens = Tokens(state.key_file, record.addresses.management, record.trust)
        # The server is on this machine, whatever proxy the environment names.
        self._http = httpx.Client(
            base_url=self._address, timeout=ANSWER_WITHIN_S, verify=record.trust, trust_env=False
        )

    def close(self) -> None:
        self._http.close()

    def predict(
        self,
        name: str,
        body: bytes,
        *,
        version: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> Any:
        return self.explain(name, body, version=version, content_type=content_type).value

    def explain(
        self,
        name: str,
        body: bytes,
        *,
        version: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> Explained:
        """As `predict`, with what the reply's headers say."""
        start = time.perf_counter()
        answer = self._post(name, version, body, {"content-type": content_type})
        took_ms = 1000 * (time.perf_counter() - start)
        return Explained(
            value=_parsed(answer.content),
            took_ms=took_ms,
            stages_ms=_stages(answer.headers.get("server-timing", "")),
            program=answer.headers.get("shipway-program", ""),
            version=answer.headers.get("shipway-version", ""),
            artifact=answer.headers.get("shipway-artifact", ""),
            batch=answer.headers.get("shipway-batch", ""),
        )

    def infer(
        self, name: str, inputs: "Mapping[str, np.ndarray]", *, version: str | None = None
    ) -> Inferred:
        """The model's outputs for its own inputs, each (rows, …), as v2 binary tensors."""
        from shipway.engines.torchserve.tensors import pack, unpack

        body, headers = pack(inputs)
        answer = self._post(name, version, body, headers)
        return Inferred(
            outputs=unpack(answer.content, answer.headers),
            program=answer.headers.get("shipway-program", ""),
        )

    def _post(
        self, name: str, version: str | None, body: bytes, headers: dict[str, str]
    ) -> httpx.Response:
        """The answer to one request if it is a good one; raises what `predict` does if not."""
        _check_size(body, self._max_request_bytes)
        path = f"/predictions/{quote(name)}" + (f"/{quote(version)}" if version else "")
        try:
            answer = self._tokens.send(
                "inference",
                lambda token: self._http.post(path, content=body, headers=headers | token),
                is_token_refused,
            )
        except httpx.TransportError as error:
            raise _unreachable(self._address, error) from error
        if answer.is_success:
            return answer
        raise _explained(http_refusal(answer), self._state, name, version)


class GrpcPredictor:
    """A Predictor over gRPC."""

    def __init__(self, state: StateDirectory) -> None:
        """The predictor of the server that runs from `state`; raises NoServer."""
        from shipway.engines.torchserve import protos, tls

        record = state.require_running()
        self._state = state
        self._address = record.addresses.grpc_inference
        self._max_request_bytes = record.max_request_bytes
        self._tokens = Tokens(state.key_file, record.addresses.management, record.trust)
        options = [
            # Sending is checked below; for replies the server's limit decides, not 4 MiB.
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.enable_http_proxy", 0),
        ]
        self._channel = tls.channel(self._address, record.certificate, options)
        stubs = protos.load()
        self._request = stubs.inference_pb2.PredictionsRequest
        self._service = stubs.inference_pb2_grpc.InferenceAPIsServiceStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def predict(
        self,
        name: str,
        body: bytes,
        *,
        version: str | None = None,
        content_type: str = "",  # gRPC has no place for it; a handler looks at the bytes
    ) -> Any:
        import grpc

        request = self._request(model_name=name, model_version=version or "", input={"body": body})
        _check_size(body, self._max_request_bytes - (request.ByteSize() - len(body)))

        def call(token: dict[str, str]) -> Any:
            try:
                return self._service.Predictions(
                    request, metadata=tuple(token.items()), timeout=ANSWER_WITHIN_S
                )
            except grpc.RpcError as error:
                return error

        answer = self._tokens.send("inference", call, _is_permission_denied)
        if isinstance(answer, grpc.RpcError):
            self._fail(answer, name, version)
        value = _parsed(answer.prediction)
        # TorchServe drops a handler's status here: its 4xx arrives as an answer like any other.
        if refusal := as_refusal(value):
            raise _explained(refusal, self._state, name, version)
        return value

    def _fail(self, error: Any, name: str, version: str | None) -> NoReturn:
        import grpc

        status, said = error.code(), error.details() or ""
        if status is grpc.StatusCode.UNAVAILABLE:
            raise _unreachable(self._address, said)
        raise _explained(grpc_refusal(status.name, said), self._state, name, version)


def _stages(server_timing: str) -> dict[str, float]:
    found = re.findall(r"([\w-]+)\s*;\s*dur=([\d.]+)", server_timing)
    return {name: float(duration) for name, duration in found}


def as_refusal(value: Any) -> Refused | None:
    """The error in an answer: the shape is TorchServe's, and the project's handlers keep to it."""
    match value:
        case {"code": int(code), "type": str(type), "message": str(message)} if code >= 400:
            return Refused(message, code=code, type=type)
    return None


def refusal_in(body: bytes) -> Refused | None:
    """The error in an answer's bytes."""
    return as_refusal(_parsed(body))


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


def _is_permission_denied(answer: Any) -> bool:
    import grpc

    return isinstance(answer, grpc.RpcError) and (
        answer.code() is grpc.StatusCode.PERMISSION_DENIED
    )


def _explained(refusal: Refused, state: StateDirectory, name: str, version: str | None) -> Refused:
    if refusal.type == "ModelNotFoundException":
        return refusal.retold(
            ModelNotFound, f"No model {name!r} is registered. `shipway models` lists what is."
        )
    if refusal.type == "ModelVersionNotFoundException":
        return refusal.retold(
            VersionNotFound,
            f"{name} has no version {version}. `shipway describe {name}` lists what there is.",
        )
    if "has no worker to serve" in str(refusal):
        return _not_taken(state, name, version)
    return refusal.retold(PredictionFailed, str(refusal))


def _not_taken(state: StateDirectory, name: str, version: str | None) -> PredictionFailed:
    """What TorchServe calls "no worker" though most often the queue is full, and INTERNAL over
    gRPC: the server's description tells which."""
    try:
        with closing(ManagementClient(state)) as management:
            described = management.describe(name)
    except ServerError:  # it is going away, or the model is
        described = []
    asked = next(
        (one for one in described if one.version == version or (one.default and not version)), None
    )
    if asked is None:
        return PredictionFailed(
            f"{name} did not take the request, and no longer tells why. Ask again in a while.",
            code=503,
            type="NoWorker",
        )
    if not asked.worker_ids:
        return PredictionFailed(
            f"{name} {asked.version} has no worker: it was scaled to none. Register it anew, or "
            "promote another version.",
            code=503,
            type="NoWorker",
        )
    return PredictionFailed(
        f"The queue of {name} {asked.version} was full: {asked.queue_limit} requests may wait "
        "(job_queue_size). Ask again in a while.",
        code=503,
        type="QueueFull",
    )


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")


def _unreachable(address: str, error: object) -> Unreachable:
    return Unreachable(
        f"The server at {address} does not answer ({error}). `shipway stop` and `shipway serve` "
        "start it anew."
    )


def _check_size(body: bytes, limit: int) -> None:
    # Here, because TorchServe says 413 without a word over HTTP, and tears the stream over gRPC.
    if len(body) > limit:
        raise PredictionFailed(
            f"The input has {len(body):,} bytes; the server takes {limit:,} (max_request_size in "
            "its config.properties).",
            code=413,
            type="RequestTooLarge",
        )
