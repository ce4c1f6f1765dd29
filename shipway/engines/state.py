"""The state directory: which server runs, where it listens, its tokens and logs.

One directory, `.shipway` by default, belongs to at most one server. Every command finds it as git
finds `.git`, and through it the server.
"""

import json
import os
import ssl
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from shipway.engines import tls
from shipway.engines.errors import NoServer

DIRECTORY_NAME = ".shipway"
CONFIG_NAME = "config.properties"

LAUNCH_MARK = "SHIPWAY_LAUNCH"
"""An environment variable that Java hands down to whatever it starts. Its value belongs to one
launch, so it finds each worker, whoever adopted it, and is never mistaken for a recycled pid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where clients on this machine reach a server."""

    inference: str
    """http://HOST:PORT, or https://, as for the two below."""
    management: str
    metrics: str
    grpc_inference: str
    """HOST:PORT"""
    grpc_management: str
    exporter: str | None
    """http://HOST:PORT; None for a server without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRecord:
    """What the command that started a server writes down for all other commands."""

    pid: int
    launch: str
    """The value of LAUNCH_MARK, which is also the server's own temporary folder."""
    addresses: Addresses
    max_request_bytes: int
    certificate: str | None = None
    """What it shows over TLS, a PEM file; None for a server without, or of an older release."""
    metrics_directory: str
    """Where its workers write what the exporter reads."""
    config: str
    model_store: str
    started: str
    """ISO 8601, UTC."""
    engine: str = "torchserve"
    """Its name in ENGINES. Records of older releases have none."""

    @property
    def trust(self) -> ssl.SSLContext:
        """For its clients over HTTP."""
        return tls.trust(self.certificate)

    def processes(self) -> list[psutil.Process]:
        """Java, its workers and their children: all that still run of this launch."""
        return list(_processes_marked(self.launch))


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """Where a server keeps what it leaves on disk while it runs."""

    path: Path

    @property
    def record_file(self) -> Path:
        """The record of the server that runs from here."""
        return self.path / "server.json"

    @property
    def releases_file(self) -> Path:
        """What should be served, and how it came about; it outlives the server."""
        return self.path / "releases.json"

    @property
    def releases_lock(self) -> Path:
        """Held by the command that changes what is served; its content says who that is."""
        return self.path / "releases.lock"

    @property
    def stopping_file(self) -> Path:
        """There while the server drains: it answers still, and should be asked nothing new."""
        return self.path / "stopping"

    @property
    def unapplied_file(self) -> Path:
        """There while a server has not all that it was started to serve; it says what lacks."""
        return self.path / "unapplied"

    @property
    def logs(self) -> Path:
        """The folder of all logs."""
        return self.path / "logs"

    @property
    def console_log(self) -> Path:
        """What the server prints: why it did not start, if so."""
        return self.logs / "console.log"

    @property
    def worker_log(self) -> Path:
        """What workers print."""
        return self.logs / "model_log.log"

    @property
    def exporter_log(self) -> Path:
        """What the exporter prints."""
        return self.logs / "exporter.log"

    def write(self, record: ServerRecord) -> bool:
        """Publishes the record whole; False if another server's is there already."""
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
        """The record, of a server that may have ended since."""
        try:
            fields = json.loads(self.record_file.read_text())
            return ServerRecord(**fields | {"addresses": Addresses(**fields["addresses"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise NoServer(
                f"{self.record_file} does not read: {error}. Remove it if no server is running."
            ) from error

    def running(self) -> ServerRecord | None:
        """The record, if its server still runs."""
        record = self.read()
        return record if record and _is_marked(record.pid, record.launch) else None

    def require_running(self) -> ServerRecord:
        """The running server's record; raises NoServer."""
        if record := self.running():
            return record
        raise NoServer(
            f"No server is running here ({self.path} records none). Start one with "
            "`shipway serve`, or name its state directory with --state."
        )


def state_directory(path: Path | None) -> StateDirectory:
    """The one at `path`, or the nearest upward."""
    return StateDirectory((path or find_project(Path.cwd()) / DIRECTORY_NAME).absolute())


def find_project(start: Path) -> Path:
    """The nearest folder upward that has a state directory or a config.properties, else `start`."""
    for folder in (start, *start.parents):
        if (folder / DIRECTORY_NAME).is_dir() or (folder / CONFIG_NAME).is_file():
            return folder
    return start


def _processes_marked(launch: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        if _mark_of(process) == launch:
            yield process


def _is_marked(pid: int, launch: str) -> bool:
    try:
        return _mark_of(psutil.Process(pid)) == launch
    except psutil.NoSuchProcess:
        return False


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(LAUNCH_MARK)
    except (psutil.Error, OSError):  # ended meanwhile, a zombie, or somebody else's
        return None
