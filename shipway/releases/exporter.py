"""The metrics exporter of a running server: what its workers recorded, and the server's own.

It is a separate process, so that it outlives workers and takes no time from them. Its parent, which
does nothing else, starts it again if it ends, and it starts another parent.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
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
from shipway.releases.exporter_process import exporter_command
from shipway.releases.readiness import why_not_ready
from shipway.supervision import DEATHS, Deaths, Keeper, keep, roll, say

T = TypeVar("T")

VERSIONS_MAX_AGE_S = 5.0
"""Maximum age of the management API's last answer. With a GPU, each answer runs nvidia-smi."""
METRICS_MAX_AGE_S = 1.0
CHECK_EVERY_S = 0.5
"""How often to check that the server still runs. The exporter ends with it."""
NAME, KEEPER = "exporter", "exporter_keeper"
"""The processes of the exporter, as they are counted."""


class Cached(Generic[T]):
    """A value that is fetched again when it is too old. Safe to share between threads."""

    def __init__(self, fetch: Callable[[], T], max_age_s: float) -> None:
        self._fetch = fetch
        self._max_age_s = max_age_s
        self._lock = threading.Lock()
        self._value: T
        self._fetched = float("-inf")

    def __call__(self) -> T:
        with self._lock:
            if time.monotonic() - self._fetched > self._max_age_s:
                self._value = self._fetch()
                self._fetched = time.monotonic()
            return self._value


class Restarts:
    """Counts workers that came back with another process id, by model and version."""

    def __init__(self) -> None:
        self._pids: dict[tuple[str, str, str], int] = {}
        self._counted: dict[tuple[str, str], int] = {}

    def update(self, versions: list[ModelVersion]) -> None:
        """Counts the workers that have another process id than at the last update."""
        for version in versions:
            for worker, pid in zip(version.worker_ids, version.worker_pids, strict=True):
                if pid > 0:  # the worker runs
                    key = (version.name, version.version)
                    before = self._pids.get((*key, worker), pid)
                    self._pids[*key, worker] = pid
                    self._counted[key] = self.of(version) + (before != pid)

    def of(self, version: ModelVersion) -> int:
        """The restarts of all workers of a version so far."""
        return self._counted.get((version.name, version.version), 0)


class ServerCollector(Collector):
    """The server's queues, workers and versions, and the memory of all processes."""

    def __init__(
        self,
        record: ServerRecord,
        versions: Cached[list[ModelVersion] | None],
        metrics: Cached[EngineMetrics | None],
        restarts: Restarts,
        recorded: Callable[[], Iterable[Family]] = tuple,
        deaths: Deaths | None = None,
    ) -> None:
        """`versions` and `metrics` return None while the server does not answer. `recorded` is what
        the workers have recorded; `deaths` counts the processes that were started again."""
        self._record = record
        self._versions = versions
        self._metrics = metrics
        self._restarts = restarts
        self._recorded = recorded
        self._deaths = deaths

    def collect(self) -> Iterator[Family]:
        """Called by Prometheus' client at each scrape."""
        versions, metrics = self._versions(), self._metrics()
        up = family_of(declared.SOURCE_UP)
        up.add_metric(["management"], versions is not None)
        up.add_metric([self._record.engine], metrics is not None)
        yield up
        metrics = metrics or EngineMetrics()
        yield _queue_means(metrics, self._recorded() if metrics.workers_queue else ())
        responses = family_of(declared.RESPONSES)
        for kind, number in metrics.responses.items():
            responses.add_metric([kind], number)
        yield responses
        restarted = family_of(declared.PROCESS_RESTARTS)
        for process, times in (self._deaths.counts() if self._deaths else {}).items():
            restarted.add_metric([process], times)
        yield restarted
        versions = versions or []
        yield _per_version(declared.QUEUE_DEPTH, versions, lambda version: version.requests_waiting)
        yield _per_version(declared.QUEUE_LIMIT, versions, lambda version: version.queue_limit)
        yield _per_version(declared.WORKERS_WANTED, versions, lambda version: version.workers)
        yield _per_version(declared.DEFAULT, versions, lambda version: version.default)
        yield _per_version(declared.RESTARTS, versions, self._restarts.of)
        yield _per_version(declared.OUT_OF_SERVICE, versions, lambda one: one.out_of_service)
        yield _states(versions)
        yield self._memory(versions)

    def _memory(self, versions: list[ModelVersion]) -> Family:
        family = family_of(declared.MEMORY)
        processes = [
            ([self._record.engine, "", "", ""], self._record.pid),
            (["exporter", "", "", ""], os.getpid()),
        ]
        for version in versions:
            for index, pid in enumerate(version.worker_pids):
                processes.append((["worker", version.name, version.version, str(index)], pid))
        for labels, pid in processes:
            try:
                family.add_metric(labels, psutil.Process(pid).memory_info().rss)
            except (psutil.Error, ValueError):  # it has ended, or not started yet
                continue
        return family


class EngineCollector(Collector):
    """The server's own metrics, with their own names."""

    def __init__(self, metrics: Cached[EngineMetrics | None]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Family]:
        """Called by Prometheus' client at each scrape."""
        yield from (self._metrics() or EngineMetrics()).families


class GpuCollector(Collector):
    """Memory and utilization of each GPU, from NVML."""

    def __init__(self, nvml: Any) -> None:
        """`nvml` is the module pynvml after nvmlInit()."""
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
    """Exports the metrics of a server until it ends.

    The arguments on the command line are its state directory, and the host and port to listen on;
    and the process that exports them already, for a parent that another one has started.
    """
    directory, host, port, *already = sys.argv[1:]
    state = StateDirectory(Path(directory))
    record = state.require_running()
    deaths = Deaths(Path(record.launch) / DEATHS)

    def start_keeper() -> subprocess.Popen[bytes]:
        command = [*exporter_command(state, host, int(port)), str(os.getpid())]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    keep(
        NAME,
        lambda keeper: export(
            state, record, host, int(port), deaths, Keeper(KEEPER, keeper, start_keeper, deaths)
        ),
        lambda: state.running() == record,
        deaths,
        *map(int, already),
    )


def export(
    state: StateDirectory,
    record: ServerRecord,
    host: str,
    port: int,
    deaths: Deaths,
    keeper: Keeper,
) -> None:
    """Exports the metrics of the server of `record` until it ends."""
    restarts = Restarts()
    engine = connect(state)
    versions = Cached(lambda: _fetch_versions(engine, restarts), VERSIONS_MAX_AGE_S)
    metrics = Cached(lambda: _fetch_metrics(engine), METRICS_MAX_AGE_S)
    workers = WorkersCollector(Path(record.metrics_directory))
    own: list[Collector] = [
        workers,
        ServerCollector(record, versions, metrics, restarts, workers.collect, deaths),
    ]
    if nvml := _nvml():
        own.append(GpuCollector(nvml))
    try:
        serve(
            host,
            port,
            own=own,
            passed_on=[EngineCollector(metrics)],
            missing=lambda: _missing(state, engine, versions()),
        )
    except OSError as error:
        say(f"The exporter cannot listen on {host}:{port}: {error.strerror}")
        sys.exit(os.EX_UNAVAILABLE)
    while state.running() == record:
        keeper.look()
        roll(state.exporter_log)
        # Also without a scrape: a worker that restarts twice between two updates is counted once.
        versions()
        time.sleep(CHECK_EVERY_S)


def _missing(
    state: StateDirectory, engine: Engine, versions: list[ModelVersion] | None
) -> str | None:
    if versions is None and not state.stopping_file.exists():
        return "the management API does not answer"
    try:
        unreachable = engine.why_unreachable()
        return "\n".join(why_not_ready(state, versions or [], unreachable=unreachable)) or None
    except ReleasesError as error:
        return str(error)


def _fetch_versions(engine: Engine, restarts: Restarts) -> list[ModelVersion] | None:
    try:
        versions = engine.versions()
    except ServerError:
        return None
    restarts.update(versions)
    return versions


def _fetch_metrics(engine: Engine) -> EngineMetrics | None:
    try:
        return engine.metrics()
    except ServerError:
        return None


def _queue_means(metrics: EngineMetrics, recorded: Iterable[Family]) -> Family:
    waits = {key: list(both) for key, both in metrics.queue_waits.items()}
    places = {f"{declared.STAGE.name}_count": 0, f"{declared.STAGE.name}_sum": 1}
    for family in recorded:
        if family.name != declared.STAGE.name:
            continue
        for sample in family.samples:
            place = places.get(sample.name)
            if place is not None and sample.labels["stage"] == "queue":
                key = (sample.labels["model"], sample.labels["version"])
                waits.setdefault(key, [0.0, 0.0])[place] += sample.value
    found = family_of(declared.QUEUE_MEAN)
    for (model, version), (requests, waited_s) in waits.items():
        found.add_metric([model, version], requests, waited_s)
    return found


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
    for version in versions:
        for state in sorted({"READY", *version.worker_states}):
            labels = [version.name, version.version, state.lower()]
            family.add_metric(labels, version.worker_states.count(state))
    return family


def _nvml() -> Any:
    """The module pynvml; None if it is not installed or finds no driver."""
    try:
        # pynvml, of nvidia-ml-py, is optional: requirements/gpu.in has it.
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # one of its own errors, or the module is missing
        return None
    return pynvml


if __name__ == "__main__":
    main()
