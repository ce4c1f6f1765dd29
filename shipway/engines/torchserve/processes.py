"""The processes of a server: how Java, its Python workers and the exporter are started."""

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
from shipway.runtime.host import NAMED_DEVICES

LOG_CONFIG = Path(__file__).with_name("log4j2.xml")
WORKER = Path(__file__).with_name("worker.py")

PYTHON = "python"
"""In the state directory: what TorchServe starts in place of Python."""
LONGEST_SOCKET_PATH = 107

# TorchServe prefers the first two to its command line; the last is for us alone to set.
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
    """Starts TorchServe with `temporary` as its folder for temporary files, and as its mark.

    Raises LaunchError if TorchServe is not installed, OSError if Java does not run.
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
        *config.vm_args,  # last, so that the user's win
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
            cwd=state.path,  # TorchServe writes its tokens to where it was started
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            # A session of its own: Ctrl-C in our terminal is ours to pass on, in order.
            start_new_session=True,
            preexec_fn=_sigterm_when_parent_dies() if dies_with_us else None,
        )


def start_exporter(
    command: Sequence[str], record: ServerRecord, state: StateDirectory, dies_with_us: bool
) -> subprocess.Popen[bytes]:
    """Starts the exporter, which ends by itself when the server has ended."""
    with state.exporter_log.open("wb") as log:
        return subprocess.Popen(
            command,
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


def temporary_folder() -> Path:
    """A folder for unpacked archives and for the workers' sockets, whose paths must be short."""
    folder = Path(tempfile.mkdtemp(prefix="shipway-"))
    if len(os.fsencode(folder / ".ts.sock.65535")) > LONGEST_SOCKET_PATH:
        folder.rmdir()
        raise LaunchError(
            f"{folder.parent} is too long a name for a temporary folder: the path of a socket in "
            f"it may have {LONGEST_SOCKET_PATH} bytes. Set TMPDIR to a shorter one."
        )
    return folder


def metrics_folder(temporary: Path) -> Path:
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
