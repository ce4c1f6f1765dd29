"""The process beside TorchServe that keeps the front as what is registered, and Envoy running.

    python -m shipway.front.controller SETTINGS

SETTINGS is the file that `settings_file` wrote. It ends with TorchServe.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import urllib.parse
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from shipway.files import atomic_write
from shipway.front.envoy import Admin, Files, start_envoy
from shipway.front.exchange import Exchange, Served
from shipway.front.registered import Announced, Registered, announced_in, progress_file
from shipway.front.resources import FrontConfig, admin_socket
from shipway.serving.progress import read_progress

LOOK_EVERY_S = 0.02
"""How often the workers' folder and the tokens are looked at."""
ASK_EVERY_S = 0.25
"""How often TorchServe is asked which versions are the defaults."""
ASK_WITHIN_S = 2.0
OLD_TOKEN_COUNTS_S = 60.0
"""How long a client may go on with a token after it was renewed."""
RENEW_BEFORE_S = 30.0
"""How long before it expires a token is renewed."""
AFTER_FAILURE_S = 0.5
"""Before another attempt at what failed."""
CONFIRMED_AFTER_S = 1.0
"""How long a worker is seen to hang before it is killed: where a whole machine was paused, workers
may go on a moment later than this process."""
RESTART_PAUSE_S = (0.0, 0.2, 1.0, 5.0)
"""Before each further start of an Envoy that ended; the last for all that follow."""
LASTS_S = 30.0
"""An Envoy that ran for so long begins again with the first pause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the controller has to know."""

    envoy: str
    """The binary."""
    folder: str
    """The front's private folder."""
    workers: str
    """The folder in which workers announce themselves."""
    host: str
    port: int
    grpc_host: str
    grpc_port: int
    torchserve: str
    """HOST:PORT of TorchServe's own inference address."""
    torchserve_grpc: str
    """The same for gRPC."""
    management: str
    """HOST:PORT of its management address."""
    key_file: str
    with_tokens: bool
    """Whether requests need a token."""
    max_request_bytes: int
    log: str
    pid: int
    """The process of TorchServe, which this one ends with."""
    stopping_file: str
    """It exists when the server is about to stop."""
    threads: int = 1

    @property
    def front(self) -> FrontConfig:
        """What Envoy's files are made from."""
        return FrontConfig(
            folder=Path(self.folder),
            host=self.host,
            port=self.port,
            grpc_host=self.grpc_host,
            grpc_port=self.grpc_port,
            torchserve=self.torchserve,
            torchserve_grpc=self.torchserve_grpc,
            max_request_bytes=self.max_request_bytes,
        )


def settings_file(settings: Settings) -> Path:
    """Writes the controller's argument into the front's folder."""
    path = Path(settings.folder) / "settings.json"
    atomic_write(path, json.dumps(asdict(settings)))
    return path


class Tokens:
    """The inference token, and those before it that still count."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._old: dict[str, float] = {}
        self._keys: Mapping[str, Any] = {}
        self._changed = 0

    @property
    def current(self) -> str | None:
        """The token that TorchServe takes; None before it has written one."""
        return self._of("inference")

    @property
    def management(self) -> str | None:
        """The token of its management API."""
        return self._of("management")

    def valid(self) -> tuple[str, ...]:
        """All that clients may use now, the current one first."""
        now = time.monotonic()
        self._old = {token: until for token, until in self._old.items() if until > now}
        return (*filter(None, [self.current]), *sorted(self._old))

    def look(self) -> None:
        """Reads the key file if it has changed, and renews a token that is about to expire."""
        path = Path(self._settings.key_file)
        try:
            changed = path.stat().st_mtime_ns
            if changed == self._changed:
                self._renew()
                return
            keys = json.loads(path.read_text())
        except (OSError, ValueError):  # TorchServe rewrites it in place
            return
        before = self.current
        self._keys, self._changed = keys, changed
        if before and before != self.current:
            self._old[before] = time.monotonic() + OLD_TOKEN_COUNTS_S

    def _renew(self) -> None:
        for kind in ("inference", "management"):
            expires = self._keys.get(kind, {}).get("expiration time")
            if expires and _seconds_until(expires) < RENEW_BEFORE_S:
                ask(
                    self._settings.management,
                    f"/token?type={kind}",
                    self._keys.get("API", {}).get("key"),
                )

    def _of(self, kind: str) -> str | None:
        key: str | None = self._keys.get(kind, {}).get("key")
        return key


class Defaults:
    """The default version of each model, as TorchServe says."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._urls: dict[str, str] = {}
        self._versions: dict[str, str] = {}
        self._asked = float("-inf")

    def look(self, token: str | None, in_a_hurry: bool) -> Mapping[str, str]:
        """The defaults, which are asked for at most every ASK_EVERY_S unless in a hurry."""
        if time.monotonic() - self._asked < (0 if in_a_hurry else ASK_EVERY_S):
            return dict(self._versions)
        self._asked = time.monotonic()
        urls = self._listed(token)
        if urls is None:  # it does not answer: what was true goes on
            return dict(self._versions)
        for name in self._versions.keys() - urls.keys():
            del self._versions[name]
        for name, url in urls.items():
            # A list is cheap. A description asks for the GPU's memory, so only after a change.
            if self._urls.get(name) != url and (version := self._default_of(name, token)):
                self._versions[name] = version
                self._urls[name] = url
        self._urls = {name: url for name, url in self._urls.items() if name in urls}
        return dict(self._versions)

    def _listed(self, token: str | None) -> dict[str, str] | None:
        """The archive of each model's default version, by name."""
        found: dict[str, str] = {}
        page = "0"
        while page:
            answer = ask(self._address, f"/models?limit=100&next_page_token={page}", token)
            if answer is None:
                return None
            found |= {each["modelName"]: each["modelUrl"] for each in answer["models"]}
            page = answer.get("nextPageToken") or ""
        return found

    def _default_of(self, name: str, token: str | None) -> str | None:
        answer = ask(self._address, f"/models/{urllib.parse.quote(name, safe='')}", token)
        return answer[0]["modelVersion"] if answer else None


def ask(address: str, path: str, token: str | None) -> Any:
    """What TorchServe's management API answers, parsed; None if it does not or refuses."""
    connection = http.client.HTTPConnection(address, timeout=ASK_WITHIN_S)
    try:
        connection.request(
            "GET", path, headers={"Authorization": f"Bearer {token}"} if token else {}
        )
        answer = connection.getresponse()
        body = answer.read()
        return json.loads(body) if answer.status == http.client.OK else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


class Supervisor:
    """Envoy, started again whenever it ends."""

    def __init__(self, settings: Settings, bootstrap: Path) -> None:
        self._settings = settings
        self._bootstrap = bootstrap
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._again = float("-inf")
        self._ended = 0

    def look(self) -> None:
        """Starts Envoy if it does not run and its pause is over."""
        now = time.monotonic()
        if self._process is not None and self._process.poll() is not None:
            status = self._process.returncode
            self._process = None
            self._ended = 0 if now - self._started > LASTS_S else self._ended + 1
            pause = RESTART_PAUSE_S[min(self._ended, len(RESTART_PAUSE_S) - 1)]
            self._again = now + pause
            print(f"Envoy ended with status {status}; it starts again in {pause:g} s", flush=True)
        if self._process is None and now >= self._again:
            self._started = now
            settings = self._settings
            self._process = start_envoy(
                Path(settings.envoy), self._bootstrap, Path(settings.log), settings.threads
            )

    def end(self) -> None:
        """Ends Envoy."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


def look(settings: Settings, tokens: Tokens, defaults: Defaults, exchange: Exchange) -> Registered:
    """What is served now."""
    tokens.look()
    versions = defaults.look(tokens.management, exchange.is_in_a_hurry())
    withdrawn = exchange.withdrawn()
    workers = tuple(
        worker
        for worker in announced_in(Path(settings.workers))
        if (worker.name, worker.version) not in withdrawn
    )
    if not settings.with_tokens:
        return Registered(workers=workers, defaults=versions)
    return Registered(
        workers=workers, defaults=versions, token=tokens.current, tokens=tokens.valid()
    )


def run(settings: Settings) -> None:
    """Keeps the front up until TorchServe ends."""
    tokens, defaults = Tokens(settings), Defaults(settings.management)
    while settings.with_tokens and not tokens.current and _runs(settings.pid):
        tokens.look()  # without a token everybody would be let in
        time.sleep(LOOK_EVERY_S)
    files, exchange = Files(settings.front), Exchange(Path(settings.folder))
    registered = look(settings, tokens, defaults, exchange)
    supervisor = Supervisor(settings, files.start(registered))
    exchange.write_served(served_by(registered))
    admin = Admin(admin_socket(settings.front.folder))
    drains, watch = False, Watch()
    try:
        while _runs(settings.pid):
            try:
                supervisor.look()
                if (now := look(settings, tokens, defaults, exchange)) != registered:
                    files.update(now)
                    exchange.write_served(served_by(now))
                    registered = now
                watch.look(registered.workers)
            except Exception:  # such as a full disk: Envoy goes on with the files that it has
                traceback.print_exc()
                time.sleep(AFTER_FAILURE_S)
            if not drains and Path(settings.stopping_file).exists():
                drains = True
                admin.drain()
            time.sleep(LOOK_EVERY_S)
    finally:
        supervisor.end()


def served_by(registered: Registered) -> Served:
    """What is said of a front with these files."""
    return Served(defaults=registered.defaults, versions=frozenset(registered.sockets()))


class Watch:
    """Ends workers that make no progress. TorchServe starts others."""

    def __init__(self) -> None:
        self._hangs_since: dict[int, float] = {}

    def look(self, workers: Iterable[Announced]) -> None:
        """Ends each that has hung for CONFIRMED_AFTER_S."""
        now = time.monotonic()
        hanging = {
            worker.pid: worker
            for worker in workers
            if (progress := read_progress(progress_file(worker)))
            and progress.hangs(worker.answer_within_s, now)
        }
        self._hangs_since = {pid: self._hangs_since.get(pid, now) for pid in hanging}
        for pid, since in self._hangs_since.items():
            if now - since >= CONFIRMED_AFTER_S:
                worker = hanging[pid]
                print(
                    f"A worker of {worker.name} {worker.version} (process {pid}) makes no "
                    "progress, so it is killed.",
                    flush=True,
                )
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except OSError:
        return False
    return state not in (b"Z", b"X")


def _seconds_until(moment: str) -> float:
    """Until a moment as TorchServe writes it: 2026-11-30T07:00:00.123456789Z."""
    seconds, _, _ = moment.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{seconds}+00:00").timestamp() - time.time()


def main() -> None:
    """Runs until TorchServe ends, or until SIGTERM. What does the work is a child process, which is
    replaced if it ends."""
    settings = Settings(**json.loads(Path(sys.argv[1]).read_text()))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    child = 0
    try:
        while _runs(settings.pid):
            child = os.fork()
            if not child:
                run(settings)
                sys.exit(0)
            _, status = os.waitpid(child, 0)
            child = 0
            if status:
                print(f"The front's process ended with status {status}; another starts", flush=True)
                time.sleep(AFTER_FAILURE_S)
    finally:
        if child:
            os.kill(child, signal.SIGTERM)


if __name__ == "__main__":
    main()
