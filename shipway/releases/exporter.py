"""The exporter of a running server: what its workers recorded, and what TorchServe says.

A process of its own beside TorchServe, so that it outlives workers and takes none of their time.
"""

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import httpx
import psutil
from prometheus_client.core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from shipway.engines.errors import ServerError
from shipway.engines.state import ServerRecord, StateDirectory
from shipway.engines.torchserve.config import read_config
from shipway.engines.torchserve.management import ManagementClient, ModelVersion
from shipway.metrics import declared
from shipway.metrics.exporter import WorkersCollector, family_of, serve
from shipway.releases.rollout import why_not_ready

T = TypeVar("T")

VERSIONS_FRESH_S = 5.0
"""How old the management API's last answer may be. With a GPU each one has it run nvidia-smi."""
METRICS_FRESH_S = 1.0
ANSWER_WITHIN_S = 2.0
LOOK_EVERY_S = 0.5
"""Whether the server still runs: the exporter ends with it."""

# TorchServe's counters behind the mean of its queue; both have the same labels.
QUEUED_MICROSECONDS = "ts_queue_latency_microseconds"
QUEUED_REQUESTS = "ts_inference_requests_total"


class Fresh(Generic[T]):
    """An answer that is asked for again once it is too old. Safe to share between threads."""

    def __init__(self, ask: Callable[[], T], for_s: float) -> None:
        self._ask = ask
        self._for_s = for_s
        self._asking = threading.Lock()
        self._answer: T
        self._asked = float("-inf")

    def __call__(self) -> T:
        with self._asking:
            if time.monotonic() - self._asked > self._for_s:
                self._answer = self._ask()
                self._asked = time.monotonic()
            return self._answer


class Restarts:
    """Workers that came back under another process id, by model and version."""

    def __init__(self) -> None:
        self._pids: dict[tuple[str, str, str], int] = {}
        self._counted: dict[tuple[str, str], int] = {}

    def look(self, versions: list[ModelVersion]) -> None:
        for version in versions:
            for worker, pid in zip(version.worker_ids, version.worker_pids, strict=True):
                if pid > 0:  # it runs
                    key = (version.name, version.version)
                    before = self._pids.get((*key, worker), pid)
                    self._pids[*key, worker] = pid
                    self._counted[key] = self.of(version) + (before != pid)

    def of(self, version: ModelVersion) -> int:
        return self._counted.get((version.name, version.version), 0)


class ServerCollector(Collector):
    """TorchServe's queues, workers and versions, and the memory of all processes."""

    def __init__(
        self,
        record: ServerRecord,
        versions: Fresh[list[ModelVersion] | None],
        metrics: Fresh[list[Family] | None],
        restarts: Restarts,
    ) -> None:
        self._record = record
        self._versions = versions
        self._metrics = metrics
        self._restarts = restarts

    def collect(self) -> Iterator[Family]:
        versions, metrics = self._versions(), self._metrics()
        up = family_of(declared.SOURCE_UP)
        up.add_metric(["management"], versions is not None)
        up.add_metric(["torchserve"], metrics is not None)
        yield up
        yield _queue_means(metrics or [])
        versions = versions or []
        yield _of_each(declared.QUEUE_DEPTH, versions, lambda one: one.requests_waiting)
        yield _of_each(declared.QUEUE_LIMIT, versions, lambda one: one.queue_limit)
        yield _of_each(declared.WORKERS_WANTED, versions, lambda one: one.workers)
        yield _of_each(declared.DEFAULT, versions, lambda one: one.default)
        yield _of_each(declared.RESTARTS, versions, self._restarts.of)
        yield _states(versions)
        yield self._memory(versions)

    def _memory(self, versions: list[ModelVersion]) -> Family:
        family = family_of(declared.MEMORY)
        processes = [
            (["torchserve", "", "", ""], self._record.pid),
            (["exporter", "", "", ""], os.getpid()),
        ]
        for each in versions:
            for place, pid in enumerate(each.worker_pids):
                processes.append((["worker", each.name, each.version, str(place)], pid))
        for labels, pid in processes:
            try:
                family.add_metric(labels, psutil.Process(pid).memory_info().rss)
            except (psutil.Error, ValueError):  # it died, or has not begun
                continue
        return family


class PassedOn(Collector):
    """TorchServe's own metrics, under its own names."""

    def __init__(self, metrics: Fresh[list[Family] | None]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Family]:
        yield from self._metrics() or []


class GpuCollector(Collector):
    """Memory and use of each GPU, by NVML."""

    def __init__(self, nvml: Any) -> None:
        """`nvml` is the module pynvml, initialised."""
        self._nvml = nvml

    def collect(self) -> Iterator[Family]:
        used, total, busy = map(
            family_of, (declared.GPU_USED, declared.GPU_TOTAL, declared.GPU_BUSY)
        )
        for index in range(self._nvml.nvmlDeviceGetCount()):
            handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
            memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
            used.add_metric([str(index)], memory.used)
            total.add_metric([str(index)], memory.total)
            percent = self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu
            busy.add_metric([str(index)], percent / 100)
        yield from (used, total, busy)


def main() -> None:
    """Exports the metrics of the server in the state directory that is given; ends when it ends."""
    state = StateDirectory(Path(sys.argv[1]))
    record = state.require_running()
    restarts = Restarts()
    management = ManagementClient(state)
    torchserve = httpx.Client(
        base_url=record.addresses.metrics,
        timeout=ANSWER_WITHIN_S,
        verify=record.trust,
        trust_env=False,
    )
    versions = Fresh(lambda: _ask_versions(management, restarts), VERSIONS_FRESH_S)
    metrics = Fresh(lambda: _ask_metrics(torchserve), METRICS_FRESH_S)
    own: list[Collector] = [
        WorkersCollector(Path(record.metrics_directory)),
        ServerCollector(record, versions, metrics, restarts),
    ]
    if nvml := _nvml():
        own.append(GpuCollector(nvml))
    # Not the record's address: that is where clients of this machine reach it.
    listener = read_config(Path(record.config)).exporter
    assert listener is not None, "whoever starts this has looked"
    serve(
        listener.host,
        listener.port,
        own=own,
        passed_on=[PassedOn(metrics)],
        missing=lambda: _missing(state, versions()),
    )
    while state.running() is not None:
        versions()  # whoever asks or not: a worker that dies twice between two looks counts once
        time.sleep(LOOK_EVERY_S)


def _missing(state: StateDirectory, versions: list[ModelVersion] | None) -> str | None:
    if versions is None and not state.stopping_file.exists():
        return "the management API does not answer"
    try:
        return "\n".join(why_not_ready(state, versions or [])) or None
    except ServerError as error:
        return str(error)


def _ask_versions(management: ManagementClient, restarts: Restarts) -> list[ModelVersion] | None:
    try:
        versions = management.models()
    except (ServerError, httpx.HTTPError, ValueError, LookupError):
        return None  # it starts, it ends, or a version went away between two questions
    restarts.look(versions)
    return versions


def _ask_metrics(torchserve: httpx.Client) -> list[Family] | None:
    try:
        answer = torchserve.get("/metrics").raise_for_status()
        # The parser, and OpenMetrics, know no counter whose name does not end in _total, as most
        # of TorchServe's do not. Without a type they keep their names.
        text = re.sub(r"^(# TYPE \S+)(?<!_total) counter$", r"\1 untyped", answer.text, flags=re.M)
        return list(text_string_to_metric_families(text))
    except (httpx.HTTPError, ValueError):
        return None


def _queue_means(metrics: list[Family]) -> Family:
    family = family_of(declared.QUEUE_MEAN)
    samples = {
        (sample.name, sample.labels["model_name"], sample.labels["model_version"]): sample.value
        for each in metrics
        for sample in each.samples
        if sample.name in (QUEUED_MICROSECONDS, QUEUED_REQUESTS)
    }
    for (name, model, version), requests in samples.items():
        if name == QUEUED_REQUESTS:
            waited_us = samples.get((QUEUED_MICROSECONDS, model, version), 0.0)
            family.add_metric([model, version], requests, waited_us / 1e6)
    return family


def _of_each(
    metric: declared.Metric,
    versions: list[ModelVersion],
    value: Callable[[ModelVersion], float],
) -> Family:
    family = family_of(metric)
    for each in versions:
        family.add_metric([each.name, each.version], value(each))
    return family


def _states(versions: list[ModelVersion]) -> Family:
    family = family_of(declared.WORKERS)
    for each in versions:
        for state in sorted({"READY", *each.worker_states}):
            labels = [each.name, each.version, state.lower()]
            family.add_metric(labels, each.worker_states.count(state))
    return family


def _nvml() -> Any:
    """The module pynvml, if it is installed and finds a driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # its own errors, or no such module
        return None
    return pynvml


if __name__ == "__main__":
    main()
