"""The TorchServe half of a handler: its rows to requests, replies to its context."""

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import psutil

from shipway.artifact.bundle import open_artifact
from shipway.artifact.errors import ArtifactError
from shipway.artifact.manifest import Manifest
from shipway.artifact.tuned import STORE_VARIABLE, read_tuned
from shipway.errors import ShipwayError
from shipway.metrics.declared import DIRECTORY_VARIABLE
from shipway.metrics.observed import Observer
from shipway.metrics.recorder import Recorder
from shipway.metrics.traces import tracer_for
from shipway.payloads.request import Request
from shipway.runtime.backends.errors import DeviceLost
from shipway.runtime.host import available_cores, own_device
from shipway.runtime.model import Model
from shipway.serving.observing import served_program
from shipway.serving.replies import encode
from shipway.serving.service import Service, most_rows
from shipway.serving.statuses import PHRASE_OF
from shipway.tasks import TASKS
from shipway.tasks.base import Task

logger = logging.getLogger(__name__)


class WrongTask(ShipwayError):
    """An artifact that is packed with the handler of another task."""


WORKER = "model_service_worker.py"
DEVICE_LOST = 70
"""The exit status of a worker whose GPU is lost to it: sysexits.h's internal software error."""


class Handler:
    """What TorchServe calls: `initialize` once in each worker, `handle` for each batch.

    A file of handlers/ has one subclass. One of your own may override `preprocess` and
    `postprocess`, or `make_task` for another form of requests and answers.
    """

    task: ClassVar[str | None] = None
    """The task that it serves, as it is registered; None for whichever the manifest names."""

    def preprocess(self, request: Request) -> Request:
        """A step before a request is read. Raises BadRequest to refuse it."""
        return request

    def postprocess(self, answer: Any) -> Any:
        """A step after the model: the answer for one row, before it is written as JSON. Replies in
        tensors (Open Inference Protocol) do not pass here."""
        return answer

    def make_task(self, model: Model) -> Task:
        """Reads requests and makes answers for `model`. Raises WrongTask."""
        named = model.manifest.task
        if self.task is not None and self.task != named:
            raise WrongTask(
                f"The artifact in this archive is for the task {named}; its handler "
                f"{type(self).__name__} serves {self.task}. Package it with handlers/{named}.py."
            )
        return TASKS.get(named)(model)

    def initialize(self, context: Any) -> None:
        """Opens the artifact and runs every batch size once. Ready when it returns."""
        properties = context.system_properties
        # TorchServe notes every batch in a line that its frontend reads. Its metrics, which come
        # the same way from loggers of their own, go on.
        logging.getLogger().setLevel(logging.WARNING)
        logging.getLogger("ts").setLevel(logging.INFO)
        artifact = open_artifact(Path(properties["model_dir"]) / "artifact")
        model = Model(
            artifact,
            workers=workers_here(),
            threads=_tuned_threads(artifact.manifest),
            most_rows=most_rows(int(properties["batch_size"] or 1)),
            device_index=own_device(properties.get("gpu_id")),
        )
        model.warm_up()
        self.service = Service(model, observers_of(model), task=self.make_task(model), steps=self)
        if context.metrics is not None:
            _tell_fallback(model, context.metrics)

    def handle(self, rows: Sequence[Mapping[str, Any]], context: Any) -> list[bytes]:
        """One reply a row, in order."""
        if all(context.get_request_header(each, "describe") == "True" for each in range(len(rows))):
            # The process too: whoever drains a version waits for each of its workers.
            return [encode(self.service.describe() | {"pid": os.getpid()})] * len(rows)
        requests = [
            Request(
                row,
                _lower(context.get_all_request_header(place)),
                context.get_request_id(place) or "",
            )
            for place, row in enumerate(rows)
        ]
        try:
            replies = self.service.answer(requests)
        except DeviceLost:
            # TorchServe would keep this process, and fail every request from here on.
            logger.critical("this worker ends, so that a new one starts", exc_info=True)
            logging.shutdown()
            os._exit(DEVICE_LOST)
        for place, reply in enumerate(replies):
            if reply.status != 200:
                context.set_response_status(reply.status, PHRASE_OF[reply.status], place)
            for name, value in reply.headers.items():
                context.set_response_header(place, name, value)
        return [each.body for each in replies]


def observers_of(model: Model) -> list[Observer]:
    """Who counts and traces this model's requests here, as far as the environment asks for it."""
    observers: list[Observer] = []
    served = served_program(model)
    if directory := os.environ.get(DIRECTORY_VARIABLE):
        try:
            observers.append(Recorder(served, Path(directory)))
        except (ImportError, OSError) as error:
            logger.warning("no metrics, though %s is set: %s", DIRECTORY_VARIABLE, error)
    if tracer := tracer_for(served):
        observers.append(tracer)
    return observers


def _tell_fallback(model: Model, metrics: Any) -> None:
    """1 in TorchServe's metrics where the portable program runs, since the chosen one does not fit.

    A server shows it only with `model_metrics_auto_detect=true`.
    """
    # TorchServe, which workers alone import.
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
    """Those that tuning found on this host, if it was tuned."""
    store = os.environ.get(STORE_VARIABLE)
    try:
        tuned = read_tuned(Path(store), manifest.name, manifest.version) if store else None
    except ArtifactError as error:
        logger.warning("the settings that tuning wrote are passed over: %s", error)
        return None
    return min(tuned.serving.threads, available_cores()) if tuned else None


def workers_here() -> int:
    """How many workers of the same server share this machine's cores, this one included.

    Of each model one version works at a time: the default before it, kept for a rollback, or the
    next one, about to be promoted, must not cost it threads.
    """
    try:
        siblings = psutil.Process().parent().children()  # type: ignore[union-attr]
        by_version = Counter(_served_by(each) for each in siblings if _is_worker(each))
    except (psutil.Error, AttributeError):
        return 1
    by_model: dict[str, int] = {}
    for (model, _), workers in by_version.items():
        by_model[model] = max(workers, by_model.get(model, 0))
    return max(1, sum(by_model.values()))


def _served_by(worker: psutil.Process) -> tuple[str, str]:
    """The model and version of a worker, which runs in the folder of its unpacked archive."""
    try:
        manifest = json.loads(Path(worker.cwd(), "MAR-INF", "MANIFEST.json").read_bytes())
        return str(manifest["model"]["modelName"]), str(manifest["model"]["modelVersion"])
    except (psutil.Error, OSError, ValueError, KeyError, TypeError):
        return f"process {worker.pid}", ""


def _is_worker(process: psutil.Process) -> bool:
    try:
        return any(each.endswith(WORKER) for each in process.cmdline())
    except psutil.Error:  # it ended meanwhile
        return False


def _lower(headers: Mapping[str, Any]) -> dict[str, str]:
    # Beside the request's headers, TorchServe puts those of each part of a form, as a mapping.
    return {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
