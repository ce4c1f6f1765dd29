"""The state directory: which server runs, where it listens, its tokens and logs.

The directory, `.shipway` by default, belongs to at most one server. Every command finds it as git
finds `.git`, and finds the server through it.
"""

import json
import os
import ssl
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from shipway import tls
from shipway.engines.errors import NoServer

DIRECTORY_NAME = ".shipway"
CONFIG_NAME = "config.properties"

LAUNCH_MARK = "SHIPWAY_LAUNCH"
"""An environment variable that Java's child processes inherit. Its value is unique to a launch. It
identifies workers even after they lose their parent, and is safe against recycled process ids."""
ENVIRONMENT_WITHIN_S = 0.5
"""Linux shows the environment of a process a moment after the process has started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where clients on this machine reach a server."""

    inference: str
    """http://HOST:PORT or https://HOST:PORT, as in the two fields below."""
    management: str
    metrics: str
    grpc_inference: str
    """HOST:PORT"""
    grpc_management: str
    exporter: str | None
    """http://HOST:PORT. None for a server without an exporter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRecord:
    """What the command that started a server records for all other commands."""

    pid: int
    launch: str
    """The value of LAUNCH_MARK, which is also the server's own temporary folder."""
    addresses: Addresses
    max_request_bytes: int
    certificate: str | None = None
    """Its TLS certificate, a PEM file. None without TLS, and in records of older releases."""
    metrics_directory: str
    """The folder where its workers write metrics for the exporter."""
    config: str
    model_store: str
    started: str
    """ISO 8601, UTC."""
    engine: str = "torchserve"
    """The engine's name in ENGINES. Records of older releases have none."""

    @property
    def trust(self) -> ssl.SSLContext:
        """The TLS context for HTTP clients of this server."""
        return tls.trust(self.certificate)

    def processes(self) -> list[psutil.Process]:
        """The processes of this launch that still run: Java, its workers and their children."""
        return processes_of(self.launch)


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """The files that a server keeps on disk while it runs."""

    path: Path

    @property
    def record_file(self) -> Path:
        """The record of the server that runs from this directory."""
        return self.path / "server.json"

    @property
    def releases_file(self) -> Path:
        """What should be served, and its history. The file outlives the server."""
        return self.path / "releases.json"

    @property
    def releases_lock(self) -> Path:
        """Locked by the command that changes what is served. Its content names that command."""
        return self.path / "releases.lock"

    @property
    def stopping_file(self) -> Path:
        """Exists while the server drains: it still answers, but should get no new requests."""
        return self.path / "stopping"

    @property
    def unapplied_file(self) -> Path:
        """Exists while a server does not serve all of its models file. It says what is missing."""
        return self.path / "unapplied"

    @property
    def unrestored_file(self) -> Path:
        """Why default versions could not be restored when the server started, by model, as JSON."""
        return self.path / "unrestored.json"

    @property
    def keys_file(self) -> Path:
        """The named keys for inference, as hashes. The file outlives the server."""
        return self.path / "keys.json"

    @property
    def logs(self) -> Path:
        """The folder with all logs."""
        return self.path / "logs"

    @property
    def console_log(self) -> Path:
        """The output of the server. It shows why a start failed."""
        return self.logs / "console.log"

    @property
    def worker_log(self) -> Path:
        """The output of the workers."""
        return self.logs / "model_log.log"

    @property
    def exporter_log(self) -> Path:
        """The output of the exporter."""
        return self.logs / "exporter.log"

    @property
    def front_log(self) -> Path:
        """The output of the front: of Envoy and of the process that keeps it."""
        return self.logs / "front.log"

    def write(self, record: ServerRecord) -> bool:
        """Publishes the record. Returns False if another server's record exists."""
        # `atomic_write` would replace the record of another server; a link fails where one exists.
        partial = self.path / f"server.{record.pid}.partial"
        partial.write_text(json.dumps(asdict(record), indent=2) + "\n")
        try:
            os.link(partial, self.record_file)
        except FileExistsError:
            return False
        finally:
            partial.unlink()
        return True

    def read(self) -> ServerRecord | None:
        """The record, even if its server has ended; None without one. Raises NoServer."""
        try:
            fields = json.loads(self.record_file.read_text())
            return ServerRecord(**fields | {"addresses": Addresses(**fields["addresses"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise NoServer(
                f"{self.record_file} cannot be read: {error}. Remove the file if no server runs."
            ) from error

    def running(self) -> ServerRecord | None:
        """The record of a server that still runs, otherwise None."""
        record = self.read()
        return record if record and _is_marked(record.pid, record.launch) else None

    def require_running(self) -> ServerRecord:
        """The record of the running server. Raises NoServer."""
        if record := self.running():
            return record
        raise NoServer(
            f"No server is running for the state directory {self.path}. Start one with "
            "`shipway serve`, or give another state directory with --state."
        )


def state_directory(path: Path | None) -> StateDirectory:
    """The state directory at `path`, or the nearest upward from the working directory."""
    return StateDirectory((path or find_project(Path.cwd()) / DIRECTORY_NAME).absolute())


def find_project(start: Path) -> Path:
    """The nearest folder upward that has a state directory or a config.properties, else `start`."""
    for folder in (start, *start.parents):
        if (folder / DIRECTORY_NAME).is_dir() or (folder / CONFIG_NAME).is_file():
            return folder
    return start


def processes_of(launch: str) -> list[psutil.Process]:
    """The processes with the mark of a launch that still run."""
    return [process for process in psutil.process_iter() if _mark_of(process) == launch]


def _is_marked(pid: int, launch: str) -> bool:
    try:
        process = psutil.Process(pid)
        deadline = time.monotonic() + ENVIRONMENT_WITHIN_S
        while not (environment := process.environ()) and time.monotonic() < deadline:
            time.sleep(0.001)
    except (psutil.Error, OSError):
        return False
    return environment.get(LAUNCH_MARK) == launch


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(LAUNCH_MARK)
    except (psutil.Error, OSError):  # it has ended, is a zombie, or belongs to another user
        return None
