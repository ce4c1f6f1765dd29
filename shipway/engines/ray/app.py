"""What runs on a Ray cluster: replicas of each model version, and routers that send requests there.

A replica is our TorchServe worker without TorchServe: the same Service answers, a batch at a time.
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
from shipway.artifact.samples import file_of, relative_error
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
"""As config.properties has it."""


class Opened(BaseModel):
    """What a replica opens, and how it batches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    artifact: Path
    """Where it lies on every node."""
    digest: Sha256
    """Of the artifact that was deployed: no node serves another one that lies there."""
    threads: int
    batch_size: int
    max_batch_delay_ms: int


class Replica:
    """One opened artifact. What it raises on the way keeps it from becoming ready."""

    def __init__(self, opened: Opened) -> None:
        # A runtime's threads belong to the thread that calls it, so that is always the same one;
        # and the event loop is free to take the next batch's requests meanwhile.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        model = self._thread.submit(_model, opened).result()
        served = served_program(model)
        self._recorder = Recorder(served, family=Family)
        observers: list[Observer] = [self._recorder]
        if tracer := tracer_for(served):
            observers.append(tracer)
        self._service = self._thread.submit(Service, model, observers).result()
        self.answer.set_max_batch_size(opened.batch_size)
        self.answer.set_batch_wait_timeout_s(opened.max_batch_delay_ms / 1000)

    @serve.batch
    async def answer(self, requests: list[Request]) -> list[Reply]:
        """One reply a request, in order; Serve collects the requests of a batch."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._service.answer, requests)
        except DeviceLost:
            # Serve would keep this process, and fail every request from here on.
            logger.critical("this replica ends, so that a new one starts", exc_info=True)
            os._exit(os.EX_SOFTWARE)

    def check_health(self) -> None:
        """Called by Serve every ten seconds."""
        self._recorder.tell()

    async def describe(self) -> dict[str, Any]:
        """What runs here: task, program, digest, metadata and the process."""
        return self._service.describe() | {"pid": os.getpid()}


def _model(opened: Opened) -> Model:
    """Warm, and proven on the samples."""
    artifact = open_artifact(opened.artifact)
    if artifact.digest != opened.digest:
        raise OtherArtifact(
            f"{opened.artifact} is another artifact here than the one that was deployed: "
            f"{artifact.digest[:12]}…, not {opened.digest[:12]}…. Copy it to every node."
        )
    model = Model(artifact, threads=opened.threads, most_rows=most_rows(opened.batch_size))
    model.warm_up()
    prove(model)
    return model


def prove(model: Model) -> None:
    """Runs the sealed samples; raises NotAsCertified if an output is further from eager's than the
    certificate allows."""
    path, manifest = model.artifact.path, model.manifest

    def rows_of(name: str) -> np.ndarray:
        return np.load(path / file_of(name), allow_pickle=False)

    rows = list(zip(*(rows_of(each.name) for each in manifest.inputs), strict=True))
    results = model.run(rows)
    tolerance = model.artifact.certificate.candidates[model.program_name].tolerance
    assert tolerance is not None  # as every program that passed has one
    for place, output in enumerate(manifest.outputs):
        found = np.stack([each.outputs[place] for each in results])
        off_by = relative_error(rows_of(output.name), found)
        if not off_by <= tolerance.relative_error:  # NaN is not
            raise NotAsCertified(
                f"On this host {model.program_name} of {manifest.name} {manifest.version} is off "
                f"by {off_by:.2g} of eager's {output.name} on {len(rows)} samples; its certificate "
                f"allows {tolerance.relative_error:.2g}. Export it again on a host like this one."
            )


class Router:
    """HTTP to requests, to the version that is asked for."""

    def __init__(self) -> None:
        self._handles: dict[str, DeploymentHandle] = {}
        self._models: dict[str, Any] = {}

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Called at the start, and with every other table of models: nothing is restarted."""
        self._models = config["models"]
        self._handles = {
            each: self._handles.get(each) or DeploymentHandle("Model", each)
            for model in self._models.values()
            for each in model["versions"].values()
        }

    async def __call__(self, http: HttpRequest) -> Response:
        try:
            reply = await self._answered(http)
        except _Refused as refused:
            reply = refused.reply
        except ShipwayError as error:
            reply = refusal(error)
        return Response(reply.body, reply.status, reply.headers)

    async def _answered(self, http: HttpRequest) -> Reply:
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
            "Requested resource is not found; /predictions/NAME and /v2/models/NAME/infer are.",
        )

    async def _predict(self, http: HttpRequest, name: str, version: str | None = None) -> Reply:
        handle = self._handle(name, version)
        headers = dict(http.headers)
        # From here on it waits, for a replica and in it: the stage `queue` is measured from this.
        headers.setdefault(SENT, f"t={time.time():.6f}")
        request = Request(await _fields(http), headers, headers.get("x-request-id", ""))
        return await _asked(name, handle.answer.remote(request))

    async def _metadata(self, name: str, version: str | None = None) -> Reply:
        described = await _asked(name, self._handle(name, version).describe.remote())
        return Reply(encode(described["metadata"]))

    def _handle(self, name: str, version: str | None) -> DeploymentHandle:
        if name not in self._models:
            raise _Refused(404, "ModelNotFoundException", f"Model not found: {name}")
        versions = self._models[name]["versions"]
        if (version := version or self._models[name]["default"]) not in versions:
            raise _Refused(
                404,
                "ModelVersionNotFoundException",
                f"Model version: {version} does not exist for model: {name}",
            )
        return self._handles[versions[version]]


class _Refused(Exception):
    """What the server says to a request, where the handlers were not asked: in TorchServe's form,
    and with its names where it has some."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        self.reply = Reply(encode({"code": status, "type": kind, "message": message}), status)


async def _asked(name: str, response: Any) -> Any:
    try:
        return await response
    except BackPressureError as error:
        raise _Refused(
            503,
            "ServiceUnavailableException",
            f"{name} has {error.args[0]} requests waiting and takes no more. Send it later.",
        ) from error
    except RayActorError as error:
        # Not asked of another replica: it may be this request that ends them.
        raise _Refused(
            503, "ReplicaLost", f"The replica of {name} that had this request is gone. Send again."
        ) from error
    except DeploymentUnavailableError as error:
        raise _Refused(
            503, "ServiceUnavailableException", f"No replica of {name} is up: it failed to start."
        ) from error


async def _fields(http: HttpRequest) -> dict[str, bytes]:
    """As TorchServe hands them on: a plain body is the field `body`, a form's have their names."""
    body = await _body(http)
    if http.headers.get("content-type", "").partition(";")[0].strip().lower() not in FORMS:
        return {"body": body}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    try:
        form = await HttpRequest(http.scope, receive).form(max_part_size=MAX_REQUEST_BYTES)
    except (MultiPartException, HTTPException) as error:
        raise BadRequest(f"The form does not parse: {error}.") from error
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
                413, "RequestTooLarge", f"A request may have {MAX_REQUEST_BYTES:,} bytes."
            )
    return bytes(body)


def model(args: Opened) -> Application:
    """The application of one version."""
    return serve.deployment(name="Model")(Replica).bind(args)


def router(args: dict[str, Any]) -> Application:
    """The application that has the address; its table of models is the deployment's user_config."""
    return serve.deployment(name="Router")(Router).bind()
