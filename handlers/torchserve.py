"""The TorchServe half of a handler: its rows to requests, replies to its context."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from handlers.errors import PHRASE_OF
from handlers.replies import encode
from handlers.requests import Request
from handlers.service import Service
from shipway.artifact.bundle import open_artifact
from shipway.runtime.errors import DeviceLost
from shipway.runtime.host import own_device
from shipway.runtime.model import Model

logger = logging.getLogger(__name__)

LEAST_ROWS = 8
"""Of the largest run, however few requests come in a batch: a request may have many rows."""
WORKER = "model_service_worker.py"
DEVICE_LOST = 70
"""The exit status of a worker whose GPU is lost to it: sysexits.h's internal software error."""


class Handler:
    """What TorchServe calls: `initialize` once in each worker, `handle` for each batch."""

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
            # Runtimes keep memory for the largest run, so none is larger than it has to be.
            most_rows=max(int(properties["batch_size"] or 1), LEAST_ROWS),
            device_index=own_device(properties.get("gpu_id")),
        )
        model.warm_up()
        self.service = Service(model)
        if context.metrics is not None:
            _tell_fallback(model, context.metrics)

    def handle(self, rows: Sequence[Mapping[str, Any]], context: Any) -> list[bytes]:
        """One reply a row, in order."""
        if all(context.get_request_header(each, "describe") == "True" for each in range(len(rows))):
            # The process too: whoever drains a version waits for each of its workers.
            return [encode(self.service.describe() | {"pid": os.getpid()})] * len(rows)
        requests = [
            Request(row, _lower(context.get_all_request_header(place)))
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


def _tell_fallback(model: Model, metrics: Any) -> None:
    """1 in TorchServe's metrics where the portable program runs, since the chosen one does not fit.

    A server shows it only with `model_metrics_auto_detect=true`.
    """
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


def workers_here() -> int:
    """How many workers share this machine's cores: those of the same server, this one included."""
    try:
        siblings = psutil.Process().parent().children()  # type: ignore[union-attr]
        return max(1, sum(_is_worker(each) for each in siblings))
    except (psutil.Error, AttributeError):
        return 1


def _is_worker(process: psutil.Process) -> bool:
    try:
        return any(each.endswith(WORKER) for each in process.cmdline())
    except psutil.Error:  # it ended meanwhile
        return False


def _lower(headers: Mapping[str, Any]) -> dict[str, str]:
    # Beside the request's headers, TorchServe puts those of each part of a form, as a mapping.
    return {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
