"""Servers that run during a `with` block, on free ports: for tuning, benchmarks and tests."""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from shipway.archive.inspect import inspect_mar
from shipway.engines.ports import free_ports
from shipway.engines.state import StateDirectory, processes_of
from shipway.engines.torchserve import launch
from shipway.engines.torchserve.config import find_config, read_config, with_settings
from shipway.engines.torchserve.java import find_java
from shipway.engines.torchserve.launch import ExporterCommand
from shipway.engines.torchserve.management import ManagementClient
from shipway.engines.torchserve.tokens import bearer, tokens_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model that a running server serves."""

    url: str
    """Where requests are sent: http://HOST:PORT/predictions/NAME."""
    headers: Mapping[str, str]
    """Headers that every request needs: those with the token."""
    process: int
    """Process id of the server, the ancestor of all its processes that have no mark."""
    launch: str | None = None
    """The mark of all its processes (`ServerRecord.launch`), if they have one."""
    workers: tuple[int, ...] = ()
    """Process ids of the workers, if they are known."""
    exporter: str | None = None
    """http://HOST:PORT of the metrics exporter. None for a server without one."""

    def worker_memory_mb(self) -> float:
        """Resident memory of the largest worker, in MB."""
        return max(psutil.Process(pid).memory_info().rss for pid in self.workers) / 1e6

    def memory_mb(self) -> float:
        """Memory of all processes of the server in MB, with shared pages counted once.

        The largest shared part of any process counts as the shared memory of all.
        """
        root = psutil.Process(self.process)
        found = {root, *root.children(recursive=True)}
        if self.launch is not None:  # the front, and workers that are forked, have other parents
            found.update(processes_of(self.launch))
        memory = []
        for process in found:
            with suppress(psutil.NoSuchProcess):
                memory.append(process.memory_full_info())
        shared = max(process.rss - process.uss for process in memory)
        return (sum(process.uss for process in memory) + shared) / 1e6


@contextmanager
def served_model(
    folder: Path,
    mar: Path,
    *,
    workers: int,
    batch_size: int,
    delay_ms: int | None = None,
    exporter_command: ExporterCommand | None = None,
) -> Iterator[ServedModel]:
    """Serves `mar`, a file in a model store, on a temporary server."""
    with (
        temporary_server(folder, mar.parent, exporter_command=exporter_command) as state,
        registered(state, mar, workers=workers, batch_size=batch_size, delay_ms=delay_ms) as model,
    ):
        yield model


@contextmanager
def temporary_server(
    folder: Path,
    model_store: Path,
    *,
    exporter_command: ExporterCommand | None = None,
    **settings: object,
) -> Iterator[StateDirectory]:
    """Starts a server as `shipway serve` does, on free ports and without models.

    Without `exporter_command`, no metrics are recorded. `settings` replace lines of
    config.properties. The server ends with the block, or with this process.
    """
    config = folder / "config.properties"
    text = with_free_ports(find_config(Path.cwd()).read_text())
    config.write_text(with_settings(text, settings))
    state = StateDirectory(folder / "state")
    launched = launch.start(
        read_config(config),
        java=find_java(),
        model_store=model_store,
        state=state,
        dies_with_us=True,
        exporter_command=exporter_command,
    )
    try:
        yield state
    finally:
        launch.end(launched, state)


@contextmanager
def registered(
    state: StateDirectory, mar: Path, *, workers: int, batch_size: int, delay_ms: int | None = None
) -> Iterator[ServedModel]:
    """Registers `mar`, a file in the server's model store, until the block ends.

    Without `delay_ms`, the archive's own batch delay applies.
    """
    info = inspect_mar(mar)
    with closing(ManagementClient(state)) as management:
        management.register(
            mar.name,
            name=info.name,
            version=info.version,
            batch_size=batch_size,
            max_batch_delay_ms=info.max_batch_delay_ms if delay_ms is None else delay_ms,
            workers=workers,
        )
        [described] = management.describe(info.name)
        record = state.require_running()
        addresses = record.addresses
        token = tokens_of(state, record).get("inference")
        yield ServedModel(
            url=f"{addresses.inference}/predictions/{info.name}",
            headers=bearer(token),
            process=record.pid,
            launch=record.launch,
            workers=described.worker_pids,
            exporter=addresses.exporter,
        )
        management.unregister(info.name, info.version)


def with_free_ports(text: str) -> str:
    """The text of a config.properties with every port replaced by a free one."""
    setting = r"^(\w+_address=https?://[\w.]+:|\w+_port=)\d+$"
    count = len(re.findall(setting, text, flags=re.MULTILINE))
    ports = iter(free_ports(count))
    return re.sub(setting, lambda match: f"{match[1]}{next(ports)}", text, flags=re.MULTILINE)
