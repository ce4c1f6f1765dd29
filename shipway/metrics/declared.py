"""Every metric of this project: its name, its unit and what it means.

Workers record some of them, the exporter reads the others off the server; docs/metrics.md is
written from this file. Names, units and `_total` are as prometheus.io/docs/practices/naming has it.
"""

from dataclasses import dataclass
from typing import Literal

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""An environment variable: where workers write their metrics, if anywhere. prometheus-client, which
does the writing, looks it up by itself."""

Kind = Literal["counter", "gauge", "histogram", "summary"]

PROGRAM = ("model", "version", "program", "device")
"""Which program answered. A worker runs one, so a client cannot make new values of these."""
VERSION = ("model", "version")

STAGES = ("queue", "decode", "preprocess", "host_to_device", "inference", "postprocess")

SECONDS = (
    *(0.0001, 0.0002, 0.0005),
    *(0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075),
    *(0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 10.0),
)
"""Upper bounds a third to a half apart where services live, from 1 ms to 1 s: a percentile read off
them is at most half a bucket's width wrong."""
ROWS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 256.0)
SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One family, as Prometheus shows it."""

    name: str
    """In full: a counter ends in _total, and a unit comes before that."""
    kind: Kind
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()
    """Upper bounds, for a histogram."""


# Recorded by the workers ---------------------------------------------------------------------

REQUEST = Metric(
    name="shipway_request_seconds",
    kind="histogram",
    help=(
        "Time of a request in the worker, from its arrival until its reply is written. Without "
        "the front, from the arrival of its batch."
    ),
    labels=PROGRAM,
    buckets=SECONDS,
)
STAGE = Metric(
    name="shipway_stage_seconds",
    kind="histogram",
    help=(
        "A request's time by stage. queue: from the X-Request-Start that a proxy or client "
        "set until its batch starts. Without that header, from its arrival in the worker, or "
        "absent without the front (see shipway_queue_mean_seconds). decode: bytes to "
        "tensors. preprocess: batching the rows. host_to_device: copy to the GPU, absent on a "
        "CPU. inference: running the program. postprocess: writing the reply."
    ),
    labels=(*PROGRAM, "stage"),
    buckets=SECONDS,
)
BATCH = Metric(
    name="shipway_batch_rows",
    kind="histogram",
    help="Rows that one run of the program answered, padding not counted.",
    labels=PROGRAM,
    buckets=ROWS,
)
PADDING = Metric(
    name="shipway_padding_ratio",
    kind="histogram",
    help=(
        "Share of a batch that was padding: rows or tokens that were added only to fill the shape."
    ),
    labels=PROGRAM,
    buckets=SHARES,
)
REQUESTS = Metric(
    name="shipway_requests_total",
    kind="counter",
    help="Requests that the handler answered, by HTTP status.",
    labels=(*PROGRAM, "status"),
)
ERRORS = Metric(
    name="shipway_errors_total",
    kind="counter",
    help="Requests that the handler refused or failed, by the kind of error and its HTTP status.",
    labels=(*PROGRAM, "kind", "status"),
)
ROWS_ANSWERED = Metric(
    name="shipway_rows_total",
    kind="counter",
    help="Rows answered with 200: a request may have many.",
    labels=PROGRAM,
)
BYTES_IN = Metric(
    name="shipway_request_bytes_total",
    kind="counter",
    help="Bytes of the requests' bodies.",
    labels=PROGRAM,
)
BYTES_OUT = Metric(
    name="shipway_response_bytes_total",
    kind="counter",
    help="Bytes of the answers' bodies.",
    labels=PROGRAM,
)
STARTS = Metric(
    name="shipway_worker_starts_total",
    kind="counter",
    help="Workers that became ready, the first start included.",
    labels=VERSION,
)
INFO = Metric(
    name="shipway_model_info",
    kind="gauge",
    help="1 for each program that is served; its labels describe the program.",
    labels=(*PROGRAM, "precision", "artifact", "fallback"),
)

# Read off the server by the exporter ---------------------------------------------------------

SOURCE_UP = Metric(
    name="shipway_source_up",
    kind="gauge",
    help="1 if the exporter could read the source: TorchServe's management API or its metrics.",
    labels=("source",),
)
QUEUE_DEPTH = Metric(
    name="shipway_queue_depth",
    kind="gauge",
    help=(
        "Requests that wait for a worker. With the front, those that workers have not answered yet."
    ),
    labels=VERSION,
)
QUEUE_LIMIT = Metric(
    name="shipway_queue_limit",
    kind="gauge",
    help="Maximum number of waiting requests. Further requests get status 503.",
    labels=VERSION,
)
QUEUE_MEAN = Metric(
    name="shipway_queue_mean_seconds",
    kind="summary",
    help=(
        "Time that requests wait for a worker. Only sum and count are known, so there are no "
        "percentiles. Without the front, from TorchServe's own counters: gRPC requests are not "
        "counted, and the version is `default` for requests without a version."
    ),
    labels=VERSION,
)
RESPONSES = Metric(
    name="shipway_front_responses_total",
    kind="counter",
    help=(
        "Responses of the front over HTTP, by class of their status: those of workers, of "
        "TorchServe and its own. Over gRPC, each whose HTTP status is not 200. Absent without it."
    ),
    labels=("code_class",),
)
WORKERS = Metric(
    name="shipway_workers",
    kind="gauge",
    help="Workers by their state in TorchServe.",
    labels=(*VERSION, "state"),
)
WORKERS_WANTED = Metric(
    name="shipway_workers_wanted",
    kind="gauge",
    help="Workers that the version was registered or scaled to.",
    labels=VERSION,
)
RESTARTS = Metric(
    name="shipway_worker_restarts_total",
    kind="counter",
    help="Worker restarts since the exporter started, detected by a new process id.",
    labels=VERSION,
)
PROCESS_RESTARTS = Metric(
    name="shipway_process_restarts_total",
    kind="counter",
    help="Restarts of processes other than workers: those of the front, the exporter, and the "
    "processes that supervise them.",
    labels=("process",),
)
OUT_OF_SERVICE = Metric(
    name="shipway_version_out_of_service",
    kind="gauge",
    help="1 if the version gets no requests for a while, since its workers died too often.",
    labels=VERSION,
)
DEFAULT = Metric(
    name="shipway_default_version",
    kind="gauge",
    help="1 for the default version, 0 for the others.",
    labels=VERSION,
)
MEMORY = Metric(
    name="shipway_process_memory_bytes",
    kind="gauge",
    help="Resident memory. process: worker, torchserve or exporter; worker: its place, from 0.",
    labels=("process", *VERSION, "worker"),
)
GPU_USED = Metric(
    name="shipway_gpu_memory_used_bytes",
    kind="gauge",
    help="GPU memory in use by all processes. Absent without NVML.",
    labels=("gpu",),
)
GPU_TOTAL = Metric(
    name="shipway_gpu_memory_total_bytes",
    kind="gauge",
    help="Memory of a GPU. Absent without NVML.",
    labels=("gpu",),
)
GPU_BUSY = Metric(
    name="shipway_gpu_utilization_ratio",
    kind="gauge",
    help="Share of the last sample period in which a kernel ran on a GPU. Absent without NVML.",
    labels=("gpu",),
)

RECORDED = (
    *(REQUEST, STAGE, BATCH, PADDING, REQUESTS, ERRORS, ROWS_ANSWERED, BYTES_IN, BYTES_OUT),
    *(STARTS, INFO),
)
READ = (
    *(SOURCE_UP, QUEUE_DEPTH, QUEUE_LIMIT, QUEUE_MEAN, RESPONSES, WORKERS, WORKERS_WANTED),
    *(RESTARTS, PROCESS_RESTARTS, OUT_OF_SERVICE, DEFAULT, MEMORY, GPU_USED, GPU_TOTAL, GPU_BUSY),
)
METRICS = (*RECORDED, *READ)
