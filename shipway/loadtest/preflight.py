"""Checks before a load test: the model is there, and answers the inputs that are to be sent."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import quote

import httpx

from shipway import tls
from shipway.engines.connection import connect
from shipway.engines.errors import Refused, VersionNotFound
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve.refusals import (
    TOKEN_REFUSED,
    grpc_refusal,
    http_refusal,
    is_a_reply,
    refusal_in,
)
from shipway.engines.torchserve.tokens import bearer, tokens_of
from shipway.loadtest import inputs
from shipway.loadtest.errors import NoInput, NotReady
from shipway.loadtest.load_test import Input, Record, Target

ANSWER_WITHIN_S = 60.0
"""For the first answers; a model may still be warming up."""
CHECKED_INPUTS = 20
"""How many of the inputs are sent once before the load."""


class Subject(Record):
    """The model under load. None where its server does not say."""

    url: str
    model: str
    version: str | None = None
    task: str | None = None
    program: str | None = None
    artifact: str | None = None
    """Digest of the artifact."""
    batch_size: int | None = None
    max_batch_delay_ms: int | None = None
    workers: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A model that answers: all that a LoadTest needs but the load."""

    target: Target
    subject: Subject
    headers: Mapping[str, str]
    inputs: tuple[Input, ...]


def local_model(
    state: StateDirectory,
    name: str,
    version: str | None,
    *,
    grpc: bool,
    headers: Mapping[str, str],
    given: tuple[Input, ...] = (),
) -> Ready:
    """Prepares a load test of a model of the server of `state`.

    `given` are the inputs; without any, examples for the model's task are sent. Raises NoServer,
    ModelNotFound, VersionNotFound, NotReady or NoInput.
    """
    record = state.require_running()
    with closing(connect(state)) as engine:
        versions = engine.versions(name)
        matching = [described for described in versions if version in (None, described.version)]
        if not matching:
            known = ", ".join(described.version for described in versions)
            raise VersionNotFound(f"{name} has no version {version}. Registered versions: {known}.")
        chosen = next((described for described in matching if described.default), matching[0])
        program = engine.describe(name, chosen.version)
    path = quote(name) + (f"/{quote(version)}" if version else "")
    target = Target(
        url=f"grpc://{record.addresses.grpc_inference}/{path}"
        if grpc
        else f"{record.addresses.inference}/predictions/{path}",
        certificate=record.certificate,
    )
    if not given and "task" not in program:
        raise NoInput(
            f"{name} does not report its task, so no example inputs can be chosen. Give files "
            "to send with --input."
        )
    sent = given or inputs.for_task(program["task"], program["metadata"]["inputs"])
    tokens = tokens_of(state, record)
    token = tokens.get("inference")
    refusal = _send(target, {**headers, **bearer(token)}, sent[0])
    if refusal is not None and refusal.type == TOKEN_REFUSED:
        tokens.renew("inference", refused=token)
    headers = {**headers, **bearer(tokens.get("inference"))}
    _check(target, headers, sent)
    subject = Subject(
        url=target.url,
        model=name,
        version=chosen.version,
        task=program.get("task"),
        program=program.get("program"),
        artifact=program.get("artifact"),
        batch_size=chosen.batch_size,
        max_batch_delay_ms=chosen.max_batch_delay_ms,
        workers=chosen.workers,
    )
    return Ready(target=target, subject=subject, headers=headers, inputs=sent)


def model_at(target: Target, headers: Mapping[str, str], given: tuple[Input, ...] = ()) -> Ready:
    """Prepares a load test of a model of any server.

    Without `given`, photos are sent if the model takes them, else sentences. Raises NotReady or
    NoInput.
    """
    if not given:
        examples = [found for found in (inputs.photos(), inputs.texts()) if found]
        if not examples:
            raise inputs.no_examples(target.url)
        accepted = (found for found in examples if not _send(target, headers, found[0]))
        given = next(accepted, examples[0])
    _check(target, headers, given)
    subject = Subject(url=target.url, model=target.model, version=target.version)
    return Ready(target=target, subject=subject, headers=headers, inputs=given)


def _check(target: Target, headers: Mapping[str, str], given: Sequence[Input]) -> None:
    for sent in given[:CHECKED_INPUTS]:
        if refusal := _send(target, headers, sent):
            raise _explained(target, refusal, sent)


def _explained(target: Target, refusal: Refused, sent: Input) -> NotReady | NoInput:
    answer = f"{refusal.code} {refusal.type}: {refusal}"
    match refusal:
        case Refused(type=kind) if kind == TOKEN_REFUSED:
            return NotReady(
                f"{target.address} refuses the token. Give the inference token from that "
                "server's key_file.json with --token, and use its inference port."
            )
        case Refused(type="ModelNotFoundException" | "ModelVersionNotFoundException"):
            version = f" {target.version}" if target.version else ""
            return NotReady(
                f"{target.address} has no model {target.model}{version}. List the models of a "
                "server with `shipway models`."
            )
        case Refused(code=404 | 405):
            return NotReady(
                f"{target.url} was not found ({answer}). Use the server's inference address and "
                "the path /predictions/NAME."
            )
        case Refused(code=400 | 413 | 415 | 422):
            return NoInput(
                f"The model refuses {sent.name} ({len(sent.body):,} bytes, "
                f"{sent.content_type}): {answer} Give files that the model accepts with "
                "--input."
            )
    return NotReady(f"{target.url} returned an error for {sent.name}: {answer}")


def _send(target: Target, headers: Mapping[str, str], sent: Input) -> Refused | None:
    """Sends one request; returns why it was refused, None if it was answered. Raises NotReady."""
    send = _send_grpc if target.protocol == "grpc" else _send_http
    return send(target, headers, sent)


def _send_http(target: Target, headers: Mapping[str, str], sent: Input) -> Refused | None:
    try:
        answer = httpx.post(
            target.url,
            content=sent.body,
            headers={"content-type": sent.content_type, **headers},
            timeout=ANSWER_WITHIN_S,
            verify=target.trust,
            trust_env=False,
        )
    except httpx.ConnectError as error:
        raise _unreachable(target, error) from error
    except httpx.TimeoutException as error:
        raise NotReady(
            f"{target.url} did not answer within {ANSWER_WITHIN_S:g} seconds. Check "
            "the load and the logs of the server."
        ) from error
    except httpx.TransportError as error:
        raise NotReady(
            f"{target.address} did not send a valid HTTP response ({error}). Use the inference "
            "port. For a gRPC port, use grpc://HOST:PORT/NAME."
        ) from error
    return http_refusal(answer) if answer.is_error else None


def _send_grpc(target: Target, headers: Mapping[str, str], sent: Input) -> Refused | None:
    # grpc takes a fifth of a second to import, and few load tests use it.
    import grpc

    from shipway.engines.torchserve import protos

    stubs = protos.load()
    request = stubs.inference_pb2.PredictionsRequest(
        model_name=target.model, model_version=target.version or "", input={"body": sent.body}
    )
    options = [("grpc.enable_http_proxy", 0)]
    with tls.channel(target.address, target.certificate, options) as channel:
        service = stubs.inference_pb2_grpc.InferenceAPIsServiceStub(channel)
        metadata = tuple((key.lower(), value) for key, value in headers.items())
        try:
            answer = service.Predictions(request, metadata=metadata, timeout=ANSWER_WITHIN_S)
        except grpc.RpcError as error:
            status, details = error.code(), error.details() or ""
            if status is grpc.StatusCode.UNAVAILABLE and not is_a_reply(error):
                raise _unreachable(target, details) from error
            if status in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED):
                return Refused(details, code=400, type=TOKEN_REFUSED)
            return grpc_refusal(status.name, details)
    return refusal_in(answer.prediction)


def _unreachable(target: Target, error: object) -> NotReady:
    return NotReady(
        f"Nothing answers at {target.address} ({error}). Check that the server is running and that "
        f"this is its {target.protocol} port."
    )
