"""The exporter of a running server: what its workers recorded, and what TorchServe says.

A process of its own beside TorchServe, so that it outlives workers and takes none of their time.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import psutil
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from shipway.engines.connection import connect
from shipway.engines.errors import ServerError
from shipway.engines.protocol import Engine, EngineMetrics, ModelVersion
from shipway.engines.state import ServerRecord, StateDirectory
from shipway.metrics import declared
from shipway.metrics.exporter import WorkersCollector, family_of, serve
from shipway.releases.errors import ReleasesError
from shipway.releases.readiness import why_not_ready

T = TypeVar("T")

VERSIONS_FRESH_S = 5.0
"""How old the management API's last answer may be. With a GPU each one has it run nvidia-smi."""
METRICS_FRESH_S = 1.0
LOOK_EVERY_S = 0.5
"""Whether the server still runs: the exporter ends with it."""


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
        """Counts the workers that have another process id than at the last look."""
        for version in versions:
            for worker, pid in zip(version.worker_ids, version.worker_pids, strict=True):
                if pid > 0:  # it runs
                    key = (version.name, version.version)
                    before = self._pids.get((*key, worker), pid)
                    self._pids[*key, worker] = pid
                    self._counted[key] = self.of(version) + (before != pid)

    def of(self, version: ModelVersion) -> int:
        """Of all workers of a version, so far."""
        return self._counted.get((version.name, version.version), 0)


class ServerCollector(Collector):
    """The server's queues, workers and versions, and the memory of all processes."""

    def __init__(
        self,
        record: ServerRecord,
        versions: Fresh[list[ModelVersion] | None],
        metrics: Fresh[EngineMetrics | None],
        restarts: Restarts,
    ) -> None:
        """`versions` and `metrics` give None while the server does not answer."""
        self._record = record
        self._versions = versions
        self._metrics = metrics
        self._restarts = restarts

    def collect(self) -> Iterator[Family]:
        """Called by Prometheus' client at each scrape."""
        versions, metrics = self._versions(), self._metrics()
        up = family_of(declared.SOURCE_UP)
        up.add_metric(["management"], versions is not None)
        up.add_metric([self._record.engine], metrics is not None)
        yield up
        yield _queue_means(metrics or EngineMetrics())
        versions = versions or []
        yield _per_version(declared.QUEUE_DEPTH, versions, lambda one: one.requests_waiting)
        yield _per_version(declared.QUEUE_LIMIT, versions, lambda one: one.queue_limit)
        yield _per_version(declared.WORKERS_WANTED, versions, lambda one: one.workers)
        yield _per_version(declared.DEFAULT, versions, lambda one: one.default)
        yield _per_version(declared.RESTARTS, versions, self._restarts.of)
        yield _states(versions)
        yield self._memory(versions)

    def _memory(self, versions: list[ModelVersion]) -> Family:
        family = family_of(declared.MEMORY)
        processes = [
            ([self._record.engine, "", "", ""], self._record.pid),
            (["exporter", "", "", ""], os.getpid()),
        ]
        for version in versions:
            for place, pid in enumerate(version.worker_pids):
                processes.append((["worker", version.name, version.version, str(place)], pid))
        for labels, pid in processes:
            try:
                family.add_metric(labels, psutil.Process(pid).memory_info().rss)
            except (psutil.Error, ValueError):  # it died, or has not begun
                continue
        return family


class PassedOn(Collector):
    """The server's own metrics, under its own names."""

    def __init__(self, metrics: Fresh[EngineMetrics | None]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Family]:
        """Called by Prometheus' client at each scrape."""
        yield from (self._metrics() or EngineMetrics()).families


class GpuCollector(Collector):
    """Memory and use of each GPU, by NVML."""

    def __init__(self, nvml: Any) -> None:
        """`nvml` is the module pynvml, initialised."""
        self._nvml = nvml

    def collect(self) -> Iterator[Family]:
        """Called by Prometheus' client at each scrape."""
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
    """Exports the metrics of the server in the state directory that is given, from the host and
    port that are given; ends when the server ends."""
    directory, host, port = sys.argv[1:]
    state = StateDirectory(Path(directory))
    record = state.require_running()
    restarts = Restarts()
    engine = connect(state)
    versions = Fresh(lambda: _ask_versions(engine, restarts), VERSIONS_FRESH_S)
    metrics = Fresh(lambda: _ask_metrics(engine), METRICS_FRESH_S)
    own: list[Collector] = [
        WorkersCollector(Path(record.metrics_directory)),
        ServerCollector(record, versions, metrics, restarts),
    ]
    if nvml := _nvml():
        own.append(GpuCollector(nvml))
    serve(
        host,
        int(port),
        own=own,
        passed_on=[PassedOn(metrics)],
        missing=lambda: _missing(state, versions()),
    )
    while state.running() is not None:
        versions()  # without a scrape too: a worker that dies twice between two looks counts once
        time.sleep(LOOK_EVERY_S)


def _missing(state: StateDirectory, versions: list[ModelVersion] | None) -> str | None:
    if versions is None and not state.stopping_file.exists():
        return "the management API does not answer"
    try:
        return "\n".join(why_not_ready(state, versions or [])) or None
    except ReleasesError as error:
        return str(error)


def _ask_versions(engine: Engine, restarts: Restarts) -> list[ModelVersion] | None:
    try:
        versions = engine.versions()
    except ServerError:
        return None
    restarts.look(versions)
    return versions


def _ask_metrics(engine: Engine) -> EngineMetrics | None:
    try:
        return engine.metrics()
    except ServerError:
        return None


def _queue_means(metrics: EngineMetrics) -> Family:
    family = family_of(declared.QUEUE_MEAN)
    for (model, version), (requests, waited_s) in metrics.queue_waits.items():
        family.add_metric([model, version], requests, waited_s)
    return family


def _per_version(
    metric: declared.Metric,
    versions: list[ModelVersion],
    value: Callable[[ModelVersion], float | None],
) -> Family:
    family = family_of(metric)
    for version in versions:
        if (number := value(version)) is not None:
            family.add_metric([version.name, version.version], number)
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
        # pynvml, of nvidia-ml-py, is optional: requirements/gpu.in has it.
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # its own errors, or no such module
        return None
    return pynvml


if __name__ == "__main__":
    main()
