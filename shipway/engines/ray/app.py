"""The code that runs on a Ray cluster: replicas of each model version, and routers to them.

A replica uses the same Service as a TorchServe worker, and answers one batch at a time.
"""

import asyncio
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.exceptions import RayActorError
from ray.serve import Application
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from shipway.artifact.bundle import open_artifact
from shipway.artifact.samples import allowed_error, error_of, file_of
from shipway.engines.ray.errors import NotAsCertified, OtherArtifact
from shipway.engines.ray.metrics import Family
from shipway.errors import ShipwayError
from shipway.metrics.observed import Observer
from shipway.metrics.recorder import Recorder
from shipway.metrics.traces import tracer_for
from shipway.payloads.errors import BadRequest
from shipway.payloads.request import FORMS, Request
from shipway.recipe import Sha256
from shipway.runtime.backends.errors import DeviceLost
from shipway.runtime.model import Model
from shipway.serving.deadlines import SENT
from shipway.serving.observing import served_program
from shipway.serving.replies import Reply, encode, refusal
from shipway.serving.service import Service, most_rows

logger = logging.getLogger("ray.serve")

MAX_REQUEST_BYTES = 20 * 2**20
"""The same limit as in config.properties."""


class ReplicaSettings(BaseModel):
    """The artifact that a replica opens, and how it batches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    artifact: Path
    """The folder of the artifact, at the same path on every node."""
    digest: Sha256
    """The digest of the deployed artifact. A node refuses any other artifact at that path."""
    threads: int
    batch_size: int
    max_batch_delay_ms: int


class Replica:
    """Serves one artifact. An exception in its constructor keeps it from becoming ready."""

    def __init__(self, settings: ReplicaSettings) -> None:
        # A runtime's threads belong to the thread that calls it, so one thread makes all calls. The
        # event loop collects the requests of the next batch at the same time.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        model = self._thread.submit(_open_model, settings).result()
        served = served_program(model)
        self._recorder = Recorder(served, family=Family)
        observers: list[Observer] = [self._recorder]
        if tracer := tracer_for(served):
            observers.append(tracer)
        self._service = self._thread.submit(Service, model, observers).result()
        self.answer.set_max_batch_size(settings.batch_size)
        self.answer.set_batch_wait_timeout_s(settings.max_batch_delay_ms / 1000)

    @serve.batch
    async def answer(self, requests: list[Request]) -> list[Reply]:
        """Returns one reply for each request, in order. Serve collects the requests of a batch."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._service.answer, requests)
        except DeviceLost:
            # Serve would keep this process, and every further request would fail.
            logger.critical("this replica ends so that a new one starts", exc_info=True)
            os._exit(os.EX_SOFTWARE)

    def check_health(self) -> None:
        """Called by Serve every ten seconds."""
        self._recorder.tell()

    async def describe(self) -> dict[str, Any]:
        """Task, program, digest, metadata and process id of this replica."""
        return self._service.describe() | {"pid": os.getpid()}


def _open_model(settings: ReplicaSettings) -> Model:
    """Opens the artifact, warms it up and checks it on its samples."""
    artifact = open_artifact(settings.artifact)
    if artifact.digest != settings.digest:
        raise OtherArtifact(
            f"{settings.artifact} on this node is not the deployed artifact: its digest is "
            f"{artifact.digest[:12]}…, not {settings.digest[:12]}…. Copy that to every node."
        )
    model = Model(artifact, threads=settings.threads, most_rows=most_rows(settings.batch_size))
    model.warm_up()
    prove(model)
    return model


def prove(model: Model) -> None:
    """Runs the sealed samples and compares the outputs with those of eager PyTorch.

    Raises NotAsCertified if an output differs by more than the certificate allows.
    """
    path, manifest = model.artifact.path, model.manifest

    def rows_of(name: str) -> np.ndarray:
        return np.load(path / file_of(name), allow_pickle=False)

    rows = list(zip(*(rows_of(spec.name) for spec in manifest.inputs), strict=True))
    results = model.run(rows)
    tolerance = model.artifact.certificate.candidates[model.program_name].tolerance
    assert tolerance is not None  # every certified program has one
    for index, measure in enumerate(model.artifact.certificate.outputs):
        outputs = np.stack([result.outputs[index] for result in results])
        error = error_of(rows_of(measure.name), outputs, measure)
        allowed = allowed_error(measure, tolerance)
        if not error <= allowed:  # also true for NaN
            raise NotAsCertified(
                f"On this host, {measure.name} of {model.program_name} of {manifest.name} "
                f"{manifest.version} differs from eager PyTorch by a relative error of "
                f"{error:.2g} on {len(rows)} samples; its certificate allows "
                f"{allowed:.2g}. Export the model on a host like this one."
            )


class Router:
    """Sends each HTTP request to a replica of the version that it names, or of the default."""

    def __init__(self) -> None:
        self._handles: dict[str, DeploymentHandle] = {}
        self._models: dict[str, Any] = {}

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Called by Serve at the start and with each new table of models, without a restart."""
        self._models = config["models"]
        self._handles = {
            application: self._handles.get(application) or DeploymentHandle("Model", application)
            for model in self._models.values()
            for application in model["versions"].values()
        }

    async def __call__(self, http: HttpRequest) -> Response:
        try:
            reply = await self._answer(http)
        except _Refused as refused:
            reply = refused.reply
        except ShipwayError as error:
            reply = refusal(error)
        return Response(reply.body, reply.status, reply.headers)

    async def _answer(self, http: HttpRequest) -> Reply:
        match http.method, http.url.path.strip("/").split("/"):
            case "POST" | "PUT", ["predictions", name, *version] if len(version) < 2:
                return await self._predict(http, name, *version)
            case "POST", ["v2", "models", name, "infer"]:
                return await self._predict(http, name)
            case "POST", ["v2", "models", name, "versions", version, "infer"]:
                return await self._predict(http, name, version)
            case "GET", ["v2", "models", name]:
                return await self._metadata(name)
            case "GET", ["v2", "models", name, "versions", version]:
                return await self._metadata(name, version)
        raise _Refused(
            404,
            "ResourceNotFoundException",
            "The requested resource was not found. Use /predictions/NAME or /v2/models/NAME/infer.",
        )

    async def _predict(self, http: HttpRequest, name: str, version: str | None = None) -> Reply:
        handle = self._handle(name, version)
        headers = dict(http.headers)
        # The stage `queue` starts here: the request waits for a replica, and then for its batch.
        headers.setdefault(SENT, f"t={time.time():.6f}")
        request = Request(await _fields(http), headers, headers.get("x-request-id", ""))
        return await _result(name, handle.answer.remote(request))

    async def _metadata(self, name: str, version: str | None = None) -> Reply:
        described = await _result(name, self._handle(name, version).describe.remote())
        return Reply(encode(described["metadata"]))

    def _handle(self, name: str, version: str | None) -> DeploymentHandle:
        if name not in self._models:
            raise _Refused(404, "ModelNotFoundException", f"Model not found: {name}")
        model = self._models[name]
        versions = model["versions"]
        if not version and not model["default"]:
            reason = f"{name} has no default version. Name a version in the request."
            raise _Refused(503, "NoDefaultVersion", model.get("reason", reason))
        if (version := version or model["default"]) not in versions:
            raise _Refused(
                404,
                "ModelVersionNotFoundException",
                f"Model version: {version} does not exist for model: {name}",
            )
        return self._handles[versions[version]]


class _Refused(Exception):
    """A router refuses a request. The reply has TorchServe's form, and its names of errors where it
    has them."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        self.reply = Reply(encode({"code": status, "type": kind, "message": message}), status)


async def _result(name: str, response: Any) -> Any:
    try:
        return await response
    except BackPressureError as error:
        raise _Refused(
            503,
            "ServiceUnavailableException",
            f"{name} has {error.args[0]} waiting requests and accepts no more. Send it later.",
        ) from error
    except RayActorError as error:
        # Not sent to another replica: this request may be what ends replicas.
        raise _Refused(
            503, "ReplicaLost", f"The replica of {name} with this request ended. Send it again."
        ) from error
    except DeploymentUnavailableError as error:
        raise _Refused(
            503, "ServiceUnavailableException", f"{name} has no replica: none could start."
        ) from error


async def _fields(http: HttpRequest) -> dict[str, bytes]:
    """The fields of a request as TorchServe passes them: `body`, or the fields of a form."""
    body = await _body(http)
    if http.headers.get("content-type", "").partition(";")[0].strip().lower() not in FORMS:
        return {"body": body}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    try:
        form = await HttpRequest(http.scope, receive).form(max_part_size=MAX_REQUEST_BYTES)
    except (MultiPartException, HTTPException) as error:
        raise BadRequest(f"The form cannot be parsed: {error}.") from error
    return {
        name: await value.read() if isinstance(value, UploadFile) else value.encode()
        for name, value in form.items()
    }


async def _body(http: HttpRequest) -> bytes:
    body = bytearray()
    async for part in http.stream():
        body += part
        if len(body) > MAX_REQUEST_BYTES:
            raise _Refused(
                413,
                "RequestTooLarge",
                f"The request is too large. Send at most {MAX_REQUEST_BYTES:,} bytes.",
            )
    return bytes(body)


def model(args: ReplicaSettings) -> Application:
    """The Serve application of one version."""
    return serve.deployment(name="Model")(Replica).bind(args)


def router(args: dict[str, Any]) -> Application:
    """The Serve application that takes all requests. Its table of models is in its user_config."""
    return serve.deployment(name="Router")(Router).bind()
