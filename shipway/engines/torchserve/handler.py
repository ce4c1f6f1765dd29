"""The TorchServe side of a handler: converts its rows to requests and writes the replies."""

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import psutil

from shipway.artifact.bundle import open_artifact
from shipway.artifact.errors import ArtifactError
from shipway.artifact.manifest import Manifest
from shipway.artifact.tuned import STORE_VARIABLE, read_tuned
from shipway.engines.torchserve.starter import STARTER_VARIABLE
from shipway.errors import ShipwayError
from shipway.metrics.declared import DIRECTORY_VARIABLE
from shipway.metrics.observed import Observer
from shipway.metrics.recorder import Recorder
from shipway.metrics.traces import tracer_for
from shipway.payloads.request import Request
from shipway.preprocessing import NAME_PATTERN
from shipway.runtime.backends.errors import DeviceLost
from shipway.runtime.host import available_cores, own_device
from shipway.runtime.model import Model
from shipway.serving.direct_config import DIRECT_VARIABLE, REPLY_VARIABLE, DirectConfig
from shipway.serving.memory import return_large_blocks
from shipway.serving.observing import served_program
from shipway.serving.replies import RETRY_AFTER_S, Reply, encode, refused_by_server
from shipway.serving.service import Service, most_rows
from shipway.serving.statuses import PHRASE_OF
from shipway.tasks import TASKS
from shipway.tasks.base import Task

if TYPE_CHECKING:
    from shipway.serving.direct import DirectServer

logger = logging.getLogger(__name__)


class WrongTask(ShipwayError):
    """An artifact is packed with the handler of another task."""


ROOM_FOR_HEADERS = 4096
"""Bytes of a reply beside its body, in the message to TorchServe."""
NO_ROOM = (
    503,
    "ServiceUnavailableException",
    "The answers to requests that ran together are too large for one message. Send it again.",
)
NO_EXPLANATIONS = (
    501,
    "NotImplementedException",
    "Explanations are not supported. Send the request to /predictions/NAME.",
)
WORKER = "model_service_worker.py"
DEVICE_LOST = 70
"""The exit status of a worker that has lost its GPU: EX_SOFTWARE in sysexits.h."""


class Handler:
    """TorchServe calls `initialize` once in each worker, and `handle` for each batch.

    Each file in handlers/ has one subclass. Your own subclass may override `preprocess` and
    `postprocess`, or `make_task` for another format of requests and answers.
    """

    _most_bytes: int | None = None
    """Of the replies of a batch; None if the server does not say."""

    task: ClassVar[str | None] = None
    """The registered name of the task that it serves. None: the task in the manifest."""

    def preprocess(self, request: Request) -> Request:
        """A step before a request is decoded. Raises BadRequest to refuse it."""
        return request

    def postprocess(self, answer: Any) -> Any:
        """A step after the model: changes the answer for one row before it is encoded as JSON.

        It is not called for tensor replies (Open Inference Protocol).
        """
        return answer

    def make_task(self, model: Model) -> Task:
        """The task that decodes requests and makes answers for `model`. Raises WrongTask."""
        name = model.manifest.task
        if self.task is not None and self.task != name:
            raise WrongTask(
                f"The artifact in this archive is for the task {name}; its handler "
                f"{type(self).__name__} serves {self.task}. Package it with handlers/{name}.py."
            )
        return TASKS.get(name)(model)

    def initialize(self, context: Any) -> None:
        """Opens the artifact and runs every batch size once. Then the worker is ready."""
        return_large_blocks()
        properties = context.system_properties
        # TorchServe logs a line for every batch, and parsing it takes its frontend time. Metrics
        # are logged too, but by other loggers, which stay on.
        logging.getLogger().setLevel(logging.WARNING)
        logging.getLogger("ts").setLevel(logging.INFO)
        direct, batch_size = os.environ.get(DIRECT_VARIABLE), int(properties["batch_size"] or 1)
        artifact = open_artifact(Path(properties["model_dir"]) / "artifact")
        model = Model(
            artifact,
            workers=workers_here(),
            threads=_tuned_threads(artifact.manifest),
            most_rows=most_rows(batch_size),
            staged=direct is None,
            device_index=own_device(properties.get("gpu_id")),
        )
        model.warm_up()
        most_bytes = os.environ.get(REPLY_VARIABLE)
        self._most_bytes = int(most_bytes) if most_bytes else None
        self.service = Service(
            model,
            observers_of(model),
            task=self.make_task(model),
            steps=self if _has_steps(type(self)) else None,
            most_reply_bytes=self._most_bytes,
        )
        self._direct = None
        if direct is not None:
            self._direct = _serve_directly(
                self.service, DirectConfig.from_json(direct), batch_size, context
            )
        if context.metrics is not None:
            _report_fallback(model, context.metrics)

    def handle(self, rows: Sequence[Mapping[str, Any]], context: Any) -> list[bytes]:
        """Returns one reply for each row, in order."""
        indexes = range(len(rows))
        # A description has no fields. Clients may send the same header with a prediction.
        if not any(rows) and all(
            context.get_request_header(index, "describe") == "True" for index in indexes
        ):
            # With the process id: a client that drains a version waits for each of its workers.
            own = {"pid": os.getpid(), "unanswered": self._direct.unanswered if self._direct else 0}
            return [encode(self.service.describe() | own)] * len(rows)
        requests = [
            Request(
                row,
                _lower(context.get_all_request_header(index)),
                context.get_request_id(index) or "",
            )
            for index, row in enumerate(rows)
        ]
        try:
            replies = self.service.answer(requests)
        except DeviceLost as error:
            _end(error)
        for index, reply in enumerate(replies):
            if context.get_request_header(index, "explain") == "True":
                replies[index] = reply = refused_by_server(*NO_EXPLANATIONS)
        if self._most_bytes:
            replies = within(replies, self._most_bytes)
        for index, reply in enumerate(replies):
            if reply.status != 200:
                context.set_response_status(reply.status, PHRASE_OF[reply.status], index)
            for name, value in reply.headers.items():
                context.set_response_header(index, name, value)
        return [reply.body for reply in replies]


def _has_steps(handler: type[Handler]) -> bool:
    """Whether a handler overrides `preprocess` or `postprocess`. What it does there may wait for
    something, so its requests are read in other threads, and one at a time."""
    return (
        handler.preprocess is not Handler.preprocess
        or handler.postprocess is not Handler.postprocess
    )


def within(replies: Sequence[Reply], most_bytes: int) -> list[Reply]:
    """The replies of a batch, which TorchServe reads as one message: those that have no room in it
    are refused, the smallest last. TorchServe would end the worker."""
    kept = list(replies)
    room = most_bytes - ROOM_FOR_HEADERS * len(kept)
    for place in sorted(range(len(kept)), key=lambda place: len(kept[place].body)):
        room -= len(kept[place].body)
        if room < 0:
            kept[place] = refused_by_server(*NO_ROOM, {"Retry-After": str(RETRY_AFTER_S)})
    return kept


def _serve_directly(
    service: Service, config: DirectConfig, batch_size: int, context: Any
) -> "DirectServer | None":
    """Answers HTTP requests in this process too. None for a model that was registered under a name
    that no artifact can have, which TorchServe serves as well as it can."""
    if not re.fullmatch(NAME_PATTERN, context.model_name):
        return None
    # httptools, uvloop, python-multipart and protobuf are not installed beside every TorchServe.
    from shipway.engines.torchserve import predictions_call
    from shipway.engines.torchserve.predictions_call import Predictions
    from shipway.serving.direct import DirectServer
    from shipway.serving.oip_grpc import calls

    settings = context.model_yaml_config or {}
    server = DirectServer(
        service,
        config,
        name=context.model_name,
        starter=started_process(),
        batch_size=batch_size,
        readers=available_cores(),
        answer_within_s=float(settings.get("responseTimeout", config.answer_within_s)),
        calls=calls(service.describe()["metadata"]) | {predictions_call.PATH: Predictions()},
        lost=_end,
    )
    server.start()
    return server


def _end(error: DeviceLost | SystemExit) -> NoReturn:
    """Ends this process: TorchServe would keep it, and every further request would fail."""
    logger.critical("this worker ends so that a new one starts", exc_info=error)
    logging.shutdown()
    os._exit(DEVICE_LOST)


def observers_of(model: Model) -> list[Observer]:
    """The observers that record and trace this model's requests, as the environment asks."""
    observers: list[Observer] = []
    served = served_program(model)
    if directory := os.environ.get(DIRECTORY_VARIABLE):
        try:
            observers.append(Recorder(served, Path(directory)))
        except (ImportError, OSError) as error:
            logger.warning("%s is set, but metrics are off: %s", DIRECTORY_VARIABLE, error)
    if tracer := tracer_for(served):
        observers.append(tracer)
    return observers


def _report_fallback(model: Model, metrics: Any) -> None:
    """Sets a gauge in TorchServe's metrics: 1 if the portable program runs in place of the chosen
    one.

    A server exports it only with `model_metrics_auto_detect=true`.
    """
    # TorchServe is importable in its workers only.
    from ts.metrics.dimension import Dimension
    from ts.metrics.metric_type_enum import MetricTypes

    metrics.add_metric(
        "ShipwayFallback",
        0 if model.fell_back_because is None else 1,
        "count",
        dimensions=[
            Dimension("Program", model.program_name),
            Dimension("Version", model.manifest.version),
        ],
        metric_type=MetricTypes.GAUGE,
    )


def _tuned_threads(manifest: Manifest) -> int | None:
    """The number of threads that tuning chose on this host; None if it was not tuned."""
    store = os.environ.get(STORE_VARIABLE)
    try:
        tuned = read_tuned(Path(store), manifest.name, manifest.version) if store else None
    except ArtifactError as error:
        logger.warning("the tuned settings are ignored: %s", error)
        return None
    return min(tuned.serving.threads, available_cores()) if tuned else None


def started_process() -> int:
    """The process that TorchServe started for this worker: itself, or one that forked it."""
    return int(os.environ.get(STARTER_VARIABLE, os.getpid()))


def workers_here() -> int:
    """The number of workers of this server that share the machine's cores, this one included.

    Only the version with the most workers counts for each model, as one version is busy at a time:
    the previous default, kept for a rollback, or the next one must not cost it threads.
    """
    try:
        siblings = psutil.Process(started_process()).parent().children()  # type: ignore[union-attr]
        by_version = Counter(_served_by(process) for process in siblings if _is_worker(process))
    except (psutil.Error, AttributeError):
        return 1
    by_model: dict[str, int] = {}
    for (model, _), workers in by_version.items():
        by_model[model] = max(workers, by_model.get(model, 0))
    return max(1, sum(by_model.values()))


def _served_by(worker: psutil.Process) -> tuple[str, str]:
    """The model and version of a worker, from the unpacked archive that is its working folder."""
    try:
        manifest = json.loads(Path(worker.cwd(), "MAR-INF", "MANIFEST.json").read_bytes())
        return str(manifest["model"]["modelName"]), str(manifest["model"]["modelVersion"])
    except (psutil.Error, OSError, ValueError, KeyError, TypeError):
        return f"process {worker.pid}", ""


def _is_worker(process: psutil.Process) -> bool:
    try:
        return any(argument.endswith(WORKER) for argument in process.cmdline())
    except psutil.Error:  # it has ended
        return False


def _lower(headers: Mapping[str, Any]) -> dict[str, str]:
    # TorchServe adds the headers of each part of a form as mappings; these are left out.
    return {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
