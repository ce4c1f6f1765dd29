"""The process beside TorchServe that keeps the front as what is registered, and Envoy running.

    python -m shipway.front.controller SETTINGS

SETTINGS is the file that `settings_file` wrote. It ends with TorchServe.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from shipway.files import atomic_write
from shipway.front.envoy import Admin, Files, start_envoy
from shipway.front.exchange import Exchange, Served
from shipway.front.registered import Announced, Registered, announced_in, progress_file, runs
from shipway.front.resources import FrontConfig, admin_socket
from shipway.front.torchserve import Defaults, Tokens
from shipway.serving.progress import read_progress

LOOK_EVERY_S = 0.02
"""How often the workers' folder and the tokens are looked at."""
ASK_EVERY_S = 0.25
"""How often TorchServe is asked which versions are the defaults."""
AFTER_WORKER_S = 30.0
"""How much longer the front waits for an answer than a worker may take for it: a worker that hangs
is ended first, and TorchServe's own error arrives."""
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
    answer_within_s: float
    """After this time a worker hangs, unless its archive says otherwise."""
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
            answer_within_s=self.answer_within_s + AFTER_WORKER_S,
        )


def settings_file(settings: Settings) -> Path:
    """Writes the controller's argument into the front's folder."""
    path = Path(settings.folder) / "settings.json"
    atomic_write(path, json.dumps(asdict(settings)))
    return path


class Supervisor:
    """Envoy, started again whenever it ends."""

    def __init__(self, settings: Settings, write: Callable[[], Path]) -> None:
        """`write` writes Envoy's files, and returns the one that it is started with."""
        self._settings = settings
        self._write = write
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
            say(f"Envoy ended with status {status}; it starts again in {pause:g} s")
        if self._process is None and now >= self._again:
            self._started = now
            settings = self._settings
            self._process = start_envoy(
                Path(settings.envoy), self._write(), Path(settings.log), settings.threads
            )

    def end(self) -> None:
        """Ends Envoy."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


def say(text: str) -> None:
    """Writes into the front's log. A full disk must not end what keeps the front."""
    with suppress(OSError):
        print(text, flush=True)


def ask_for_ever(tokens: Tokens, defaults: Defaults, exchange: Exchange) -> None:
    """Asks TorchServe what only it knows, in a thread of its own: it may take seconds to answer."""
    while True:
        with suppress(Exception):  # an answer that is none, from a server that ends
            defaults.look(tokens.management, exchange.is_in_a_hurry())
            tokens.renew()
        deadline = time.monotonic() + ASK_EVERY_S
        while time.monotonic() < deadline and not exchange.is_in_a_hurry():
            time.sleep(LOOK_EVERY_S)
        time.sleep(LOOK_EVERY_S)


def look(settings: Settings, tokens: Tokens, defaults: Defaults, exchange: Exchange) -> Registered:
    """What is served now."""
    tokens.look()
    return Registered(
        workers=announced_in(Path(settings.workers)),
        withdrawn=exchange.withdrawn(),
        defaults=defaults.versions,
        with_tokens=settings.with_tokens,
        token=tokens.current if settings.with_tokens else None,
        tokens=tokens.valid() if settings.with_tokens else (),
    )


def run(settings: Settings) -> None:
    """Keeps the front up until TorchServe ends."""
    management = settings.management
    tokens, defaults = Tokens(Path(settings.key_file), management), Defaults(management)
    while settings.with_tokens and not tokens.current and runs(settings.pid):
        tokens.look()  # without a token everybody would be let in
        time.sleep(LOOK_EVERY_S)
    files, exchange = Files(settings.front), Exchange(Path(settings.folder))
    defaults.look(tokens.management, in_a_hurry=True)
    threading.Thread(target=ask_for_ever, args=(tokens, defaults, exchange), daemon=True).start()
    registered = look(settings, tokens, defaults, exchange)
    files.start(registered)
    # Again before each start: whatever became of the files, it begins with good ones.
    supervisor = Supervisor(settings, lambda: files.start(registered))
    exchange.write_served(served_by(registered))
    admin = Admin(admin_socket(settings.front.folder))
    drains, watch = False, Watch()
    try:
        while runs(settings.pid):
            try:
                supervisor.look()
                if (now := look(settings, tokens, defaults, exchange)) != registered:
                    files.update(now)
                    exchange.write_served(served_by(now))
                    registered = now
                watch.look(registered.workers)
            except Exception:  # such as a full disk: Envoy goes on with the files that it has
                say(traceback.format_exc())
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
                say(
                    f"A worker of {worker.name} {worker.version} (process {pid}) makes no "
                    "progress, so it is killed."
                )
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def main() -> None:
    """Runs until TorchServe ends, or until SIGTERM. What does the work is a child process, which is
    replaced if it ends."""
    settings = Settings(**json.loads(Path(sys.argv[1]).read_text()))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    child = 0
    try:
        while runs(settings.pid):
            child = os.fork()
            if not child:
                run(settings)
                sys.exit(0)
            _, status = os.waitpid(child, 0)
            child = 0
            if status:
                say(f"The front's process ended with status {status}; another starts")
                time.sleep(AFTER_FAILURE_S)
    finally:
        if child:
            os.kill(child, signal.SIGTERM)


if __name__ == "__main__":
    main()
