"""TorchServe as a process: start it, wait until it is ready, end all of it.

Java is started directly, with the arguments that TorchServe's own launcher would pass: that one
keeps its pid file in the system's temporary folder, so a machine has room for one server only.
"""

import ctypes
import importlib.util
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil

from shipway.artifact.tuned import STORE_VARIABLE
from shipway.engines.errors import LaunchError, NoServer
from shipway.engines.state import LAUNCH_MARK, ServerRecord, StateDirectory
from shipway.engines.torchserve.config import Listener, ServerConfig
from shipway.engines.torchserve.devices import for_torchserve
from shipway.engines.torchserve.drain import until_quiet
from shipway.engines.torchserve.java import Java
from shipway.engines.torchserve.tokens import Kind, Tokens, is_token_refused
from shipway.metrics.declared import DIRECTORY_VARIABLE
from shipway.runtime.host import NAMED_DEVICES

LOG_CONFIG = Path(__file__).with_name("log4j2.xml")
WORKER = Path(__file__).with_name("worker.py")

READY_WITHIN_S = 60.0
DRAIN_WITHIN_S = 20.0
"""For requests in flight and those that still come; in all, a stop takes some 5 s more."""
STOP_WITHIN_S = 30.0
"""For Java to end; it would wait for the last of its gRPC clients without a limit."""
ORPHANS_END_WITHIN_S = 5.0
"""For workers to notice that Java is gone, which they do when their socket closes."""

LONGEST_SOCKET_PATH = 107
ENDED_BY_SIGTERM = 128 + signal.SIGTERM

# TorchServe prefers the first two to its command line; the last is for us alone to set.
HIDDEN_FROM_JAVA = ("TS_CONFIG_FILE", "TS_MODEL_SERVER_HOME", NAMED_DEVICES)


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
    expose_management: bool = False,
) -> Launched:
    """Starts a server and returns when it is ready to take requests.

    With `dies_with_us` it ends when this process does, however that comes about. Raises
    LaunchError and leaves nothing running if it cannot start, and if others could reach more of it
    than inference, unless the configuration and `expose_management` both allow that.
    """
    _check_exposure(config, expose_management)
    if running := state.running():
        raise LaunchError(
            f"A server is already running here: process {running.pid}, "
            f"{running.addresses.inference}. `shipway stop` ends it; --state DIR gives a second "
            "one a state directory of its own."
        )
    if died := state.read():
        _end(died, state)
        _clear(died, state)
    devices = for_torchserve(os.environ)
    check_ports(config)
    model_store.mkdir(parents=True, exist_ok=True)
    state.path.mkdir(parents=True, exist_ok=True, mode=0o700)  # it will hold the tokens
    state.logs.mkdir(exist_ok=True)
    _write_python(state.python)
    state.key_file.unlink(missing_ok=True)

    temporary = _temporary_folder()
    metrics = _metrics_folder(temporary)
    environment = devices | ({DIRECTORY_VARIABLE: str(metrics)} if config.exporter else {})
    try:
        process = _spawn(config, java, model_store, state, temporary, environment, dies_with_us)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(metrics, ignore_errors=True)
        raise LaunchError(f"{java.executable} does not run: {error}.") from error
    record = ServerRecord(
        pid=process.pid,
        launch=str(temporary),
        addresses=config.addresses,
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
            raise LaunchError(f"Another server was started in {state.path} at the same time.")
        exporter = _spawn_exporter(record, state, dies_with_us) if config.exporter else None
        _wait_until_ready(process, exporter, record, state)
    except BaseException:
        _end(record, state)
        process.wait()
        _clear(record, state)
        raise
    return Launched(process=process, exporter=exporter, record=record)


def wait(launched: Launched, state: StateDirectory) -> None:
    """Blocks until the server ends. Returns if somebody stopped it, raises LaunchError if not."""
    exit_code = launched.process.wait()
    end(launched, state)
    if exit_code != ENDED_BY_SIGTERM:
        raise LaunchError(
            f"TorchServe ended on its own, with exit code {exit_code}. "
            f"{_torchserves_last_words(state)}"
        )


def end(launched: Launched, state: StateDirectory) -> None:
    """Ends the server that this process started, if it has not ended, and tidies up after it."""
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
        raise NoServer(f"No server is running here ({state.path} records none that is alive).")
    return record


def _spawn(
    config: ServerConfig,
    java: Java,
    model_store: Path,
    state: StateDirectory,
    temporary: Path,
    extra_environment: Mapping[str, str],
    dies_with_us: bool,
) -> subprocess.Popen[bytes]:
    site_packages = _torchserve_home()
    command = [
        str(java.executable),
        *java.quieting_flags,
        f"-Dmodel_server_home={site_packages}",
        f"-Dlog4j.configurationFile={LOG_CONFIG.as_uri()}",
        f"-Djava.io.tmpdir={temporary}",
        *config.vm_args,  # last, so that the user's win
        *("-cp", f"{site_packages}/ts/frontend/*"),
        "org.pytorch.serve.ModelServer",
        *("--python", str(state.python.resolve())),
        *("--ts-config-file", str(config.path)),
        *("--model-store", str(model_store.resolve())),
        "--no-config-snapshot",
    ]
    environment = {key: os.environ[key] for key in os.environ.keys() - set(HIDDEN_FROM_JAVA)}
    environment |= extra_environment
    environment |= {
        "SHIPWAY_MODEL_STORE": quote_for_pattern(str(model_store.resolve())),
        "LOG_LOCATION": str(state.logs.resolve()),
        "METRICS_LOCATION": str(state.logs.resolve()),
        STORE_VARIABLE: str(model_store.resolve()),
        LAUNCH_MARK: str(temporary),
    }
    with state.console_log.open("wb") as console:
        return subprocess.Popen(
            command,
            cwd=state.path,  # TorchServe writes its tokens to where it was started
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            # A session of its own: Ctrl-C in our terminal is ours to pass on, in order.
            start_new_session=True,
            preexec_fn=_sigterm_when_parent_dies() if dies_with_us else None,
        )


def _spawn_exporter(
    record: ServerRecord, state: StateDirectory, dies_with_us: bool
) -> subprocess.Popen[bytes]:
    """Starts the exporter, which ends by itself when the server has ended."""
    with state.exporter_log.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "shipway.releases.exporter", str(state.path.resolve())],
            cwd=Path(__file__).parents[3],  # where this code is, whatever is installed
            env=os.environ | {LAUNCH_MARK: record.launch},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_sigterm_when_parent_dies() if dies_with_us else None,
        )


def _write_python(file: Path) -> None:
    """Makes `file` this Python, which begins TorchServe's workers with worker.py."""
    file.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        f'*/ts/model_service_worker.py) set -- -P {shlex.quote(str(WORKER))} "$@" ;;\n'
        "esac\n"
        f'exec {shlex.quote(sys.executable)} "$@"\n'
    )
    file.chmod(0o700)


def quote_for_pattern(path: str) -> str:
    """`path` as TorchServe must find it in the environment to match it literally in allowed_urls.

    On its way it is split at commas, is the replacement in a substitution, and is then compiled
    as a regular expression.
    """
    special = r"[^\w/\x80-\U0010ffff-]"
    pattern = re.sub(special, lambda found: rf"\x{ord(found[0]):02x}", path, flags=re.ASCII)
    return pattern.replace("\\", "\\\\")


def _torchserve_home() -> Path:
    """The folder that holds TorchServe's package `ts`, found without importing it."""
    found = importlib.util.find_spec("ts")
    if found is None or not found.submodule_search_locations:
        raise LaunchError("TorchServe is not installed beside this command: `make env`.")
    return Path(found.submodule_search_locations[0]).resolve().parent


def _temporary_folder() -> Path:
    """A folder for unpacked archives and for the workers' sockets, whose paths must be short."""
    folder = Path(tempfile.mkdtemp(prefix="shipway-"))
    if len(os.fsencode(folder / ".ts.sock.65535")) > LONGEST_SOCKET_PATH:
        folder.rmdir()
        raise LaunchError(
            f"{folder.parent} is too long a name for a temporary folder: the path of a socket in "
            f"it may have {LONGEST_SOCKET_PATH} bytes. Set TMPDIR to a shorter one."
        )
    return folder


def _metrics_folder(temporary: Path) -> Path:
    """Where workers write their metrics: in memory where that can be had.

    They map the files, and a write to a mapped file on a full disk would end the worker.
    """
    in_memory = Path("/dev/shm")
    if os.access(in_memory, os.W_OK):
        return Path(tempfile.mkdtemp(prefix="shipway-", dir=in_memory))
    folder = temporary / "metrics"
    folder.mkdir()
    return folder


def _sigterm_when_parent_dies() -> Callable[[], object] | None:
    """For the child to call between fork and exec. Only Linux has it."""
    if not sys.platform.startswith("linux"):
        return None
    set_process_option = ctypes.CDLL(None).prctl  # looked up now: not much is safe after a fork
    parent_death_signal = 1
    return lambda: set_process_option(parent_death_signal, signal.SIGTERM)


def _check_exposure(config: ServerConfig, expose_management: bool) -> None:
    missing = []
    if not config.may_expose_management:
        missing.append(f"allow_management_beyond_loopback=true in {config.path}")
    if not expose_management:
        missing.append("`shipway serve --expose-management`")
    if missing and config.exposed:
        listed = ", ".join(f"{one.purpose} ({one.host}:{one.port})" for one in config.exposed)
        raise LaunchError(
            f"Others could reach {listed}. Whoever may manage the server can run code on it, and "
            "metrics ask for no token. Keep them on 127.0.0.1; or, if it is meant, say it in both "
            f"places. Missing is {' and '.join(missing)}."
        )


def check_ports(config: ServerConfig) -> None:
    """Raises LaunchError, naming the port, if one that the server needs is taken."""
    for listener in config.listeners:
        _check_free(listener, config.path)


def _check_free(listener: Listener, config_path: Path) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            listener.host.strip("[]"), listener.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise LaunchError(
            f"Port {listener.port} on {listener.host} ({listener.purpose}) cannot be used: "
            f"{error.strerror}. If it is a server of yours, end it with `shipway stop`; "
            f"otherwise give another port in {config_path} or in a copy named with --config."
        ) from error


def _wait_until_ready(
    process: subprocess.Popen[bytes],
    exporter: subprocess.Popen[bytes] | None,
    record: ServerRecord,
    state: StateDirectory,
) -> None:
    tokens = Tokens(state.key_file, record.addresses.management, record.trust)
    deadline = time.monotonic() + READY_WITHIN_S
    with httpx.Client(timeout=2.0, verify=record.trust, trust_env=False) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise LaunchError(
                    f"TorchServe ended with exit code {process.returncode} before it was ready. "
                    f"{_torchserves_last_words(state)}"
                )
            if exporter and exporter.poll() is not None:
                raise LaunchError(
                    f"The exporter ended with exit code {exporter.returncode}. "
                    f"{_last_words(state.exporter_log)}"
                )
            if _is_ready(client, record, tokens):
                return
            time.sleep(0.1)
    raise LaunchError(
        f"TorchServe was not ready within {READY_WITHIN_S:.0f} s and was ended. "
        f"{_torchserves_last_words(state)}"
    )


def _is_ready(client: httpx.Client, record: ServerRecord, tokens: Tokens) -> bool:
    # The management service over gRPC is the last that TorchServe opens.
    addresses = record.addresses
    exporter = [addresses.exporter.removeprefix("http://")] if addresses.exporter else []
    for address in (addresses.grpc_inference, addresses.grpc_management, *exporter):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=1.0).close()
        except OSError:
            return False
    needed: tuple[tuple[str, Kind], ...] = (
        (f"{addresses.inference}/ping", "inference"),
        (f"{addresses.management}/models", "management"),
    )

    def answers(url: str, kind: Kind) -> bool:
        # Tokens may live for a shorter time than the start takes.
        return tokens.send(
            kind, lambda headers: client.get(url, headers=headers), is_token_refused
        ).is_success

    try:
        return all(answers(url, kind) for url, kind in needed)
    except httpx.TransportError:
        return False


def _end(record: ServerRecord, state: StateDirectory) -> None:
    """Waits until all that was asked is answered; then SIGTERM to Java, which ends its workers;
    SIGKILL to whatever is left after a while.

    A Ctrl-C meanwhile means that the user will not wait.
    """
    try:
        if state.running() == record:
            state.stopping_file.touch()
            until_quiet(state, DRAIN_WITHIN_S)
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
            *(state.stopping_file, state.unapplied_file),
            *(state.key_file, state.python, state.record_file),
        ):
            file.unlink(missing_ok=True)


def _torchserves_last_words(state: StateDirectory) -> str:
    return _last_words(state.console_log, state.logs / "ts_log.log")


def _last_words(*logs: Path, lines: int = 15) -> str:
    for log in logs:
        try:
            tail = log.read_text(errors="replace").strip().splitlines()[-lines:]
        except OSError:
            continue
        if tail:
            return f"The end of {log}:\n" + "\n".join(f"    {line}" for line in tail)
    return f"Its logs in {logs[0].parent} say nothing."
