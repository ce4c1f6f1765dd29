"""Starts and stops TorchServe.

Java is started directly, with the arguments that TorchServe's own launcher would pass. That
launcher keeps its pid file in the system's temporary folder, so it can start one server per machine
only.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil

from shipway.engines.errors import LaunchError, NoServer
from shipway.engines.state import ServerRecord, StateDirectory
from shipway.engines.torchserve import front
from shipway.engines.torchserve.config import ServerConfig
from shipway.engines.torchserve.devices import for_torchserve
from shipway.engines.torchserve.drain import refuse_connections, until_quiet
from shipway.engines.torchserve.exposure import check_exposure, check_ports
from shipway.engines.torchserve.java import Java
from shipway.engines.torchserve.processes import (
    PYTHON,
    metrics_folder,
    start_exporter,
    start_java,
    temporary_folder,
)
from shipway.engines.torchserve.readiness import end_of_logs, wait_until_ready
from shipway.engines.torchserve.tokens import key_file
from shipway.metrics.declared import DIRECTORY_VARIABLE
from shipway.serving.direct_config import REPLY_VARIABLE

DRAIN_WITHIN_S = 20.0
"""How long a server that stops goes on answering requests. The whole stop takes about 5 s more."""
STOP_WITHIN_S = 30.0
"""How long Java may take to end. By itself it would wait for its gRPC clients without a limit."""
ORPHANS_END_WITHIN_S = 5.0
"""How long workers may take to notice, by their closed socket, that Java has ended."""

ENDED_BY_SIGTERM = 128 + signal.SIGTERM


ExporterCommand = Callable[[StateDirectory, str, int], Sequence[str]]
"""The command that exports the metrics of the server in a state directory, at a host and port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A server that this process started."""

    process: subprocess.Popen[bytes]
    exporter: subprocess.Popen[bytes] | None
    record: ServerRecord


def start(
    config: ServerConfig,
    *,
    java: Java,
    model_store: Path,
    state: StateDirectory,
    dies_with_us: bool,
    exporter_command: ExporterCommand | None = None,
    expose_management: bool = False,
) -> Launched:
    """Starts a server and returns when it is ready to take requests.

    With `dies_with_us` it ends when this process does, however that comes about.
    `exporter_command` gives the command of the process that exports its metrics; without one, or
    where the configuration has no address for it, none are recorded. Raises LaunchError and leaves
    nothing running if it cannot start, and if others could reach more of it than inference, unless
    the configuration and `expose_management` both allow that.
    """
    check_exposure(config, expose_management)
    _check_none_runs(state)
    devices = for_torchserve(os.environ)
    check_ports(config)
    model_store.mkdir(parents=True, exist_ok=True)
    state.path.mkdir(parents=True, exist_ok=True, mode=0o700)  # it will hold the tokens
    state.logs.mkdir(exist_ok=True)
    key_file(state).unlink(missing_ok=True)

    exporter = None
    if config.exporter and exporter_command:
        exporter = exporter_command(state, config.exporter.host, config.exporter.port)
    temporary = temporary_folder()
    metrics = metrics_folder(temporary)
    fronted = front.prepare(config, temporary)
    environment = devices | ({DIRECTORY_VARIABLE: str(metrics)} if exporter else {})
    environment |= fronted.environment if fronted else {}
    environment[REPLY_VARIABLE] = str(config.max_response_bytes)
    try:
        inner = fronted.config if fronted else config
        process = start_java(inner, java, model_store, state, temporary, environment, dies_with_us)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(metrics, ignore_errors=True)
        raise LaunchError(
            f"Cannot start Java ({java.executable}): {error}. Unset JAVA_HOME to use the Java that "
            "comes with Shipway."
        ) from error
    without_exporter = replace(config.addresses, exporter=None)
    record = ServerRecord(
        pid=process.pid,
        launch=str(temporary),
        addresses=config.addresses if exporter else without_exporter,
        max_request_bytes=config.max_request_bytes,
        certificate=str(config.certificate) if config.certificate else None,
        metrics_directory=str(metrics),
        config=str(config.path),
        model_store=str(model_store.resolve()),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    try:
        # Before it is ready: from here on `shipway stop` finds it, whatever happens to us.
        if not state.write(record):
            raise LaunchError(
                f"Another server was started in {state.path} at the same time. Use that server, "
                "or give another state directory with --state."
            )
        exporting = start_exporter(exporter, record, state, dies_with_us) if exporter else None
        fronting = front.start(fronted, config, state, record) if fronted else None
        wait_until_ready(process, exporting, fronting, record, state)
    except BaseException:
        _end(record, state)
        process.wait()
        _clear(record, state)
        raise
    return Launched(process=process, exporter=exporting, record=record)


def _check_none_runs(state: StateDirectory) -> None:
    """Raises LaunchError if a server runs from `state`; removes the files of one that died."""
    if running := state.running():
        raise LaunchError(
            f"A server is already running for this state directory: process {running.pid}, "
            f"{running.addresses.inference}. Stop it with `shipway stop`, or start a second server "
            "with another state directory: --state DIR."
        )
    if died := state.read():
        _end(died, state)
        _clear(died, state)


def wait(launched: Launched, state: StateDirectory) -> None:
    """Blocks until the server ends. Raises LaunchError unless it was stopped."""
    exit_code = launched.process.wait()
    end(launched, state)
    if exit_code != ENDED_BY_SIGTERM:
        raise LaunchError(
            f"TorchServe stopped unexpectedly with exit code {exit_code}. {end_of_logs(state)}"
        )


def end(launched: Launched, state: StateDirectory) -> None:
    """Ends the server that this process started, if it still runs, and removes its files."""
    _end(launched.record, state)
    launched.process.wait()
    if launched.exporter:
        launched.exporter.wait()
    _clear(launched.record, state)


def stop(state: StateDirectory) -> ServerRecord:
    """Ends the server of `state`, its workers included; raises NoServer if there is none."""
    record = state.read()
    was_running = state.running() is not None
    if record:
        _end(record, state)
        _clear(record, state)
    if not record or not was_running:
        raise NoServer(
            f"No server is running for the state directory {state.path}. Give another one with "
            "--state."
        )
    return record


def _end(record: ServerRecord, state: StateDirectory) -> None:
    """Waits until all requests are answered, then sends SIGTERM to Java, which ends its workers,
    and after a while SIGKILL to whatever is left.

    Ctrl-C in the meantime skips the waiting.
    """
    try:
        if state.running() == record:
            state.stopping_file.touch()
            until_quiet(state, DRAIN_WITHIN_S)
            refuse_connections(record)
        if _signal(record.pid, record, signal.SIGTERM):
            _wait_for(lambda: all(p.pid != record.pid for p in record.processes()), STOP_WITHIN_S)
        _wait_for(lambda: not record.processes(), ORPHANS_END_WITHIN_S)
    except KeyboardInterrupt:
        pass
    while left := record.processes():  # again and again: a dying worker may have had a child
        for process in left:
            _signal(process.pid, record, signal.SIGKILL)
        time.sleep(0.05)


def _signal(pid: int, record: ServerRecord, number: signal.Signals) -> bool:
    """False if there is no such process of this server."""
    for process in record.processes():
        if process.pid == pid:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                return False
            return True
    return False


def _wait_for(condition: Callable[[], bool], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)


def _clear(record: ServerRecord, state: StateDirectory) -> None:
    """Removes what the server left on disk, unless another has taken its place."""
    shutil.rmtree(record.launch, ignore_errors=True)
    shutil.rmtree(record.metrics_directory, ignore_errors=True)
    current = state.read()
    if current is None or current.launch == record.launch:
        for file in (
            *(state.stopping_file, state.unapplied_file, state.unrestored_file),
            *(key_file(state), state.path / PYTHON, state.record_file),
        ):
            file.unlink(missing_ok=True)
