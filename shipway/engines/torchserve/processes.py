"""Starts the processes of a server: Java, its Python workers and the exporter."""

import ctypes
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from shipway.artifact.tuned import STORE_VARIABLE
from shipway.engines.errors import LaunchError
from shipway.engines.state import LAUNCH_MARK, ServerRecord, StateDirectory
from shipway.engines.torchserve.config import ServerConfig
from shipway.engines.torchserve.java import Java
from shipway.engines.torchserve.starter import TEMPLATE_VARIABLE
from shipway.runtime.host import NAMED_DEVICES

LOG_CONFIG = Path(__file__).with_name("log4j2.xml")
STARTER = Path(__file__).with_name("starter.py")
WORKER = Path(__file__).with_name("worker.py")

PYTHON = "python"
"""The script in the state directory that TorchServe starts as its Python."""
MAX_SOCKET_PATH_BYTES = 107

# TorchServe prefers the first two to its command line. Only `devices.for_torchserve` sets the last.
HIDDEN_FROM_JAVA = ("TS_CONFIG_FILE", "TS_MODEL_SERVER_HOME", NAMED_DEVICES)


def start_java(
    config: ServerConfig,
    java: Java,
    model_store: Path,
    state: StateDirectory,
    temporary: Path,
    extra_environment: Mapping[str, str],
    dies_with_us: bool,
) -> subprocess.Popen[bytes]:
    """Starts TorchServe. `temporary` is its folder for temporary files and its launch mark.

    With `dies_with_us`, it is terminated when this process ends. Raises LaunchError if TorchServe
    is not installed, OSError if Java does not run.
    """
    python = state.path / PYTHON
    _write_python(python)
    site_packages = _torchserve_home()
    command = [
        str(java.executable),
        *java.quieting_flags,
        f"-Dmodel_server_home={site_packages}",
        f"-Dlog4j.configurationFile={LOG_CONFIG.as_uri()}",
        f"-Djava.io.tmpdir={temporary}",
        *config.vm_args,  # last, so that they override the others
        *("-cp", f"{site_packages}/ts/frontend/*"),
        "org.pytorch.serve.ModelServer",
        *("--python", str(python.resolve())),
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
            cwd=state.path,  # TorchServe writes its tokens to its working directory
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            # In a separate session: this process handles Ctrl-C and ends the others in order.
            start_new_session=True,
            preexec_fn=_sigterm_when_parent_dies() if dies_with_us else None,
        )


def start_exporter(
    command: Sequence[str], record: ServerRecord, state: StateDirectory, dies_with_us: bool
) -> subprocess.Popen[bytes]:
    """Starts the exporter, which ends by itself after the server."""
    state.exporter_log.write_bytes(b"")
    with state.exporter_log.open("ab") as log:  # which it rolls
        return subprocess.Popen(
            command,
            cwd=Path(__file__).parents[3],  # so that `-m` finds this code, whatever is installed
            env=os.environ | {LAUNCH_MARK: record.launch},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_sigterm_when_parent_dies() if dies_with_us else None,
        )


def _write_python(file: Path) -> None:
    """Writes a script that runs this Python, and TorchServe's workers through starter.py where
    there is a template, else through worker.py."""
    file.write_text(
        "#!/bin/sh\n"
        f'case "${{{TEMPLATE_VARIABLE}:+forked}} $1" in\n'
        f'forked*/ts/model_service_worker.py) set -- -I -S {shlex.quote(str(STARTER))} "$@" ;;\n'
        f'*/ts/model_service_worker.py) set -- -P {shlex.quote(str(WORKER))} "$@" ;;\n'
        "esac\n"
        f'exec {shlex.quote(sys.executable)} "$@"\n'
    )
    file.chmod(0o700)


def quote_for_pattern(path: str) -> str:
    """Quotes `path` for an environment variable that TorchServe inserts into allowed_urls.

    TorchServe splits the value at commas, uses it as the replacement in a substitution, and
    compiles the result as a regular expression, which must match the path literally.
    """
    special = r"[^\w/\x80-\U0010ffff-]"
    pattern = re.sub(special, lambda match: rf"\x{ord(match[0]):02x}", path, flags=re.ASCII)
    return pattern.replace("\\", "\\\\")


def _torchserve_home() -> Path:
    """The folder with TorchServe's package `ts`, found without importing it."""
    spec = importlib.util.find_spec("ts")
    if spec is None or not spec.submodule_search_locations:
        raise LaunchError(
            "TorchServe is not installed in this Python environment. Install Shipway again."
        )
    return Path(spec.submodule_search_locations[0]).resolve().parent


def temporary_folder() -> Path:
    """Makes a folder for unpacked archives and for the workers' sockets.

    Raises LaunchError if the sockets' paths would be too long.
    """
    folder = Path(tempfile.mkdtemp(prefix="shipway-"))
    if len(os.fsencode(folder / ".ts.sock.65535")) > MAX_SOCKET_PATH_BYTES:
        folder.rmdir()
        raise LaunchError(
            f"The path of the temporary folder {folder.parent} is too long: the path of a socket "
            f"in it may have {MAX_SOCKET_PATH_BYTES} bytes. Set TMPDIR to a shorter path."
        )
    return folder


def metrics_folder(temporary: Path) -> Path:
    """Makes the folder for the workers' metrics, in memory if the system has /dev/shm.

    Workers map the files, and a write to a mapped file on a full disk ends the process.
    """
    in_memory = Path("/dev/shm")
    if os.access(in_memory, os.W_OK):
        return Path(tempfile.mkdtemp(prefix="shipway-", dir=in_memory))
    folder = temporary / "metrics"
    folder.mkdir()
    return folder


def _sigterm_when_parent_dies() -> Callable[[], object] | None:
    """A function for the child to call between fork and exec. None except on Linux."""
    if not sys.platform.startswith("linux"):
        return None
    # Looked up before the fork: little is safe after it.
    set_process_option = ctypes.CDLL(None).prctl
    parent_death_signal = 1
    return lambda: set_process_option(parent_death_signal, signal.SIGTERM)
