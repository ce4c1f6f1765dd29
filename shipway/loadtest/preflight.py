"""Before the load: where the model is, what it takes, and requests that must be answered."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import quote

import httpx

from shipway.engines import tls
from shipway.engines.errors import Refused, VersionNotFound
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve.management import ManagementClient
from shipway.engines.torchserve.refusals import grpc_refusal, http_refusal, refusal_in
from shipway.engines.torchserve.tokens import bearer, tokens_of
from shipway.loadtest import inputs
from shipway.loadtest.errors import NoInput, NotReady
from shipway.loadtest.load_test import Input, Record, Target

ANSWER_WITHIN_S = 60.0
"""The first answers; a model may still be warming up."""
TOKEN_REFUSED = "InvalidKeyException"
ASKED_FIRST = 20
"""How many of the inputs are tried before the load."""


class Subject(Record):
    """The model under load, as far as its server tells."""

    url: str
    model: str
    version: str | None = None
    task: str | None = None
    program: str | None = None
    artifact: str | None = None
    """Its digest."""
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


def here(
    state: StateDirectory,
    name: str,
    version: str | None,
    *,
    grpc: bool,
    headers: Mapping[str, str],
    given: tuple[Input, ...] = (),
) -> Ready:
    """A model of the server that runs from `state`. Raises NoServer, ModelNotFound,
    VersionNotFound, NotReady or NoInput."""
    record = state.require_running()
    with closing(ManagementClient(state)) as management:
        versions = management.describe(name)
        asked = [each for each in versions if each.version == version or not version]
        if not asked:
            known = ", ".join(each.version for each in versions)
            raise VersionNotFound(f"{name} has no version {version}; there are: {known}.")
        served = next((each for each in asked if each.default), asked[0])
        runs = management.what_runs(name, served.version)
    path = quote(name) + (f"/{quote(version)}" if version else "")
    target = Target(
        url=f"grpc://{record.addresses.grpc_inference}/{path}"
        if grpc
        else f"{record.addresses.inference}/predictions/{path}",
        certificate=record.certificate,
    )
    if not given and "task" not in runs:
        raise NoInput(f"{name} does not tell what it takes. Name files with --input.")
    chosen = given or inputs.for_task(runs["task"], runs["metadata"]["inputs"])
    tokens = tokens_of(state, record)
    token = tokens.get("inference")
    refusal = _ask(target, {**headers, **bearer(token)}, chosen[0])
    if refusal is not None and refusal.type == TOKEN_REFUSED:
        tokens.renew("inference", refused=token)
    headers = {**headers, **bearer(tokens.get("inference"))}
    _check(target, headers, chosen)
    subject = Subject(
        url=target.url,
        model=name,
        version=served.version,
        task=runs.get("task"),
        program=runs.get("program"),
        artifact=runs.get("artifact"),
        batch_size=served.batch_size,
        max_batch_delay_ms=served.max_batch_delay_ms,
        workers=served.workers,
    )
    return Ready(target=target, subject=subject, headers=headers, inputs=chosen)


def anywhere(target: Target, headers: Mapping[str, str], given: tuple[Input, ...] = ()) -> Ready:
    """A model of any server. Raises NotReady or NoInput."""
    if not given:
        # Nobody tells what it takes, so it is tried.
        tried = (inputs.photos(), inputs.texts())
        given = next((each for each in tried if not _ask(target, headers, each[0])), tried[0])
    _check(target, headers, given)
    subject = Subject(url=target.url, model=target.model, version=target.version)
    return Ready(target=target, subject=subject, headers=headers, inputs=given)


def _check(target: Target, headers: Mapping[str, str], given: Sequence[Input]) -> None:
    for each in given[:ASKED_FIRST]:
        if refusal := _ask(target, headers, each):
            raise _explained(target, refusal, each)


def _explained(target: Target, refusal: Refused, asked: Input) -> NotReady | NoInput:
    said = f"{refusal.code} {refusal.type}: {refusal}"
    match refusal:
        case Refused(type="InvalidKeyException"):
            return NotReady(
                f"{target.address} refuses the token. Give the inference token of that server with "
                "--token, its key_file.json has it; and ask its inference port."
            )
        case Refused(type="ModelNotFoundException" | "ModelVersionNotFoundException"):
            version = f" {target.version}" if target.version else ""
            return NotReady(
                f"{target.address} has no model {target.model}{version}. `shipway models` lists "
                "what a server has."
            )
        case Refused(code=404 | 405):
            return NotReady(
                f"{target.url} is not there ({said}). Is it the inference address, and the path "
                "/predictions/NAME?"
            )
        case Refused(code=400 | 413 | 415 | 422):
            return NoInput(
                f"The model refuses {asked.name} ({len(asked.body):,} bytes, "
                f"{asked.content_type}): {said} Name files that it takes with --input."
            )
    return NotReady(f"{target.url} does not answer {asked.name}: {said}")


def _ask(target: Target, headers: Mapping[str, str], asked: Input) -> Refused | None:
    """None for an answer that counts. Raises NotReady if none comes."""
    ask = _ask_grpc if target.protocol == "grpc" else _ask_http
    return ask(target, headers, asked)


def _ask_http(target: Target, headers: Mapping[str, str], asked: Input) -> Refused | None:
    try:
        answer = httpx.post(
            target.url,
            content=asked.body,
            headers={"content-type": asked.content_type, **headers},
            timeout=ANSWER_WITHIN_S,
            verify=target.trust,
            trust_env=False,
        )
    except httpx.ConnectError as error:
        raise _nobody(target, error) from error
    except httpx.TimeoutException as error:
        raise NotReady(f"{target.url} did not answer within {ANSWER_WITHIN_S:g} seconds.") from (
            error
        )
    except httpx.TransportError as error:
        raise NotReady(
            f"What listens at {target.address} does not speak HTTP ({error}). Is it the inference "
            "port? A gRPC port is asked with grpc://HOST:PORT/NAME."
        ) from error
    return http_refusal(answer) if answer.is_error else None


def _ask_grpc(target: Target, headers: Mapping[str, str], asked: Input) -> Refused | None:
    import grpc

    from shipway.engines.torchserve import protos

    stubs = protos.load()
    request = stubs.inference_pb2.PredictionsRequest(
        model_name=target.model, model_version=target.version or "", input={"body": asked.body}
    )
    options = [("grpc.enable_http_proxy", 0)]
    with tls.channel(target.address, target.certificate, options) as channel:
        service = stubs.inference_pb2_grpc.InferenceAPIsServiceStub(channel)
        metadata = tuple((key.lower(), value) for key, value in headers.items())
        try:
            answer = service.Predictions(request, metadata=metadata, timeout=ANSWER_WITHIN_S)
        except grpc.RpcError as error:
            status, details = error.code(), error.details() or ""
            if status is grpc.StatusCode.UNAVAILABLE:
                raise _nobody(target, details) from error
            if status is grpc.StatusCode.PERMISSION_DENIED:
                return Refused(details, code=400, type=TOKEN_REFUSED)
            return grpc_refusal(status.name, details)
    return refusal_in(answer.prediction)


def _nobody(target: Target, error: object) -> NotReady:
    return NotReady(
        f"Nothing answers at {target.address} ({error}). Is the server running, and is the "
        f"{target.protocol} port right?"
    )
