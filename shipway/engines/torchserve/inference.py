"""Clients of TorchServe's inference API, over HTTP and over gRPC."""

import re
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol
from urllib.parse import quote

import httpx

from shipway import tls
from shipway.engines.errors import (
    ModelNotFound,
    PredictionFailed,
    Refused,
    ServerError,
    Unreachable,
    VersionNotFound,
)
from shipway.engines.protocol import Inferred
from shipway.engines.state import StateDirectory
from shipway.engines.tensors import pack, unpack
from shipway.engines.torchserve.management import ManagementClient
from shipway.engines.torchserve.refusals import (
    as_refusal,
    grpc_refusal,
    http_refusal,
    is_a_reply,
    parsed,
)
from shipway.engines.torchserve.tokens import TokenAuth, tokens_of
from shipway.serving.statuses import TOO_MANY_WAIT

if TYPE_CHECKING:
    import numpy as np

# Longer than a worker may take (default_response_timeout), so that TorchServe's own error arrives.
ANSWER_WITHIN_S = 150.0


class Predictor(Protocol):
    """A client for predictions of one server. Safe to share between threads."""

    def predict(
        self, name: str, body: bytes, *, version: str | None = None, content_type: str = ...
    ) -> Any:
        """The handler's answer to one input, parsed.

        Raises PredictionFailed if this input gets none, ModelNotFound or VersionNotFound if none
        would, Unreachable if the server does not answer.
        """

    def close(self) -> None:
        """Ends the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A prediction, with the time it took."""

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
    """The number of rows in its batch."""


class HttpPredictor:
    """A Predictor over HTTP."""

    def __init__(self, state: StateDirectory) -> None:
        """The predictor of the server that runs from `state`; raises NoServer."""
        record = state.require_running()
        self._state = state
        self._address = record.addresses.inference
        self._max_request_bytes = record.max_request_bytes
        # The server is on this machine, whatever proxy the environment names.
        self._http = httpx.Client(
            base_url=self._address,
            auth=TokenAuth(tokens_of(state, record), "inference"),
            timeout=ANSWER_WITHIN_S,
            verify=record.trust,
            trust_env=False,
        )

    def close(self) -> None:
        """Ends the connection."""
        self._http.close()

    def predict(
        self,
        name: str,
        body: bytes,
        *,
        version: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> Any:
        """See `Predictor`."""
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
            value=parsed(answer.content),
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
            answer = self._http.post(path, content=body, headers=headers)
        except httpx.TransportError as error:
            raise _unreachable(self._address, error) from error
        if answer.is_success:
            return answer
        raise _explained(http_refusal(answer), self._state, name, version)


class GrpcPredictor:
    """A Predictor over gRPC."""

    def __init__(self, state: StateDirectory) -> None:
        """The predictor of the server that runs from `state`; raises NoServer."""
        # grpc takes a tenth of a second to import, and clients over HTTP do without it.
        import grpc

        from shipway.engines.torchserve import protos
        from shipway.engines.torchserve.grpc_tokens import TokenInterceptor

        record = state.require_running()
        self._state = state
        self._address = record.addresses.grpc_inference
        self._max_request_bytes = record.max_request_bytes
        options = [
            # Sending is checked below; for replies the server's limit decides, not 4 MiB.
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.enable_http_proxy", 0),
        ]
        self._channel = tls.channel(self._address, record.certificate, options)
        stubs = protos.load()
        self._request = stubs.inference_pb2.PredictionsRequest
        tokens = TokenInterceptor(tokens_of(state, record), "inference")
        self._service = stubs.inference_pb2_grpc.InferenceAPIsServiceStub(
            grpc.intercept_channel(self._channel, tokens)
        )

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def predict(
        self,
        name: str,
        body: bytes,
        *,
        version: str | None = None,
        content_type: str = "",  # gRPC has no place for it; a handler looks at the bytes
    ) -> Any:
        """See `Predictor`."""
        # grpc takes a tenth of a second to import, and HttpPredictor does without it.
        import grpc

        request = self._request(model_name=name, model_version=version or "", input={"body": body})
        _check_size(body, self._max_request_bytes - (request.ByteSize() - len(body)))

        try:
            answer = self._service.Predictions(request, timeout=ANSWER_WITHIN_S)
        except grpc.RpcError as error:
            self._fail(error, name, version)
        value = parsed(answer.prediction)
        # TorchServe drops a handler's status here: its 4xx arrives as an answer like any other.
        if refusal := as_refusal(value):
            raise _explained(refusal, self._state, name, version)
        return value

    def _fail(self, error: Any, name: str, version: str | None) -> NoReturn:
        # grpc takes a tenth of a second to import, and HttpPredictor does without it.
        import grpc

        status, said = error.code(), error.details() or ""
        if status is grpc.StatusCode.UNAVAILABLE and not is_a_reply(error):
            raise _unreachable(self._address, said)
        raise _explained(grpc_refusal(status.name, said), self._state, name, version)


def _stages(server_timing: str) -> dict[str, float]:
    found = re.findall(r"([\w-]+)\s*;\s*dur=([\d.]+)", server_timing)
    return {name: float(duration) for name, duration in found}


def _explained(refusal: Refused, state: StateDirectory, name: str, version: str | None) -> Refused:
    if refusal.type == "ModelNotFoundException":
        return refusal.retold(
            ModelNotFound,
            f"Model {name!r} is not registered. List the registered models with `shipway models`.",
        )
    if refusal.type == "ModelVersionNotFoundException":
        return refusal.retold(
            VersionNotFound,
            f"{name} has no version {version}. List its versions with `shipway describe {name}`.",
        )
    # TorchServe's words, and those of a worker behind the front.
    if "has no worker to serve" in str(refusal) or TOO_MANY_WAIT in str(refusal):
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
    queried = next(
        (one for one in described if one.version == version or (one.default and not version)), None
    )
    if described and not version and queried is None:
        return PredictionFailed(
            f"{name} has no default version. Name a version in the request, or choose one with "
            f"`shipway promote {name} VERSION`.",
            code=503,
            type="NoDefaultVersion",
        )
    if queried is None:
        return PredictionFailed(
            f"{name} refused the request, and the cause could not be determined. Try again later.",
            code=503,
            type="NoWorker",
        )
    if not queried.worker_ids:
        return PredictionFailed(
            f"{name} {queried.version} has no workers, because it was scaled to 0. Unregister it "
            "and register it again, or promote another version.",
            code=503,
            type="NoWorker",
        )
    return PredictionFailed(
        f"The queue of {name} {queried.version} is full: {queried.queue_limit} requests may wait "
        "(job_queue_size). Try again later.",
        code=503,
        type="QueueFull",
    )


def _unreachable(address: str, error: object) -> Unreachable:
    return Unreachable(
        f"The server at {address} does not answer ({error}). Restart it with `shipway stop` and "
        "`shipway serve`."
    )


def _check_size(body: bytes, limit: int) -> None:
    # Here, because TorchServe says 413 without a word over HTTP, and tears the stream over gRPC.
    if len(body) > limit:
        raise PredictionFailed(
            f"The input has {len(body):,} bytes; the limit is {limit:,}. Send a smaller input, or "
            "raise max_request_size in config.properties.",
            code=413,
            type="RequestTooLarge",
        )
