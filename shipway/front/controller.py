"""The process beside TorchServe that keeps the front as what is registered, and Envoy running.

    python -m shipway.front.controller SETTINGS [PID]

SETTINGS is the file that `settings_file` wrote. With PID, that process does the work, and this one
takes its place when it ends. It ends with TorchServe.
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
from dataclasses import asdict, dataclass, field
from pathlib import Path

from shipway.files import atomic_write
from shipway.front.cors import Cors
from shipway.front.envoy import Admin, Files, start, start_envoy
from shipway.front.exchange import Exchange, Served
from shipway.front.keys import KeysFile
from shipway.front.probe import Probe
from shipway.front.registered import (
    DEATHS_WITHIN_S,
    MOST_DEATHS,
    Announced,
    Registered,
    announced_in,
    failing_in,
    progress_file,
)
from shipway.front.resources import FrontConfig, admin_socket
from shipway.front.torchserve import Defaults, Management, Tokens
from shipway.processes import runs
from shipway.serving.progress import DUMP_SIGNAL, read_progress
from shipway.supervision import Deaths, Keeper, Supervisor, keep, roll, say

MODULE = "shipway.front.controller"
NAME, KEEPER, ENVOY, TEMPLATE = "front", "front_keeper", "envoy", "template"
"""The processes of the front, as they are counted."""
SETTINGS_FILE = "settings.json"
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
    """With TorchServe's tokens."""
    keys_file: str
    """With the named keys."""
    with_tokens: bool
    """Whether requests need a token."""
    max_body_bytes: int
    """Of a request."""
    answer_within_s: float
    """After this time a worker hangs, unless its archive says otherwise."""
    log: str
    pid: int
    """The process of TorchServe, which this one ends with."""
    stopping_file: str
    """It exists when the server is about to stop."""
    deaths: str
    """The folder in which is counted how often each process has ended."""
    template: list[str] = field(default_factory=list)
    """The command of the process that workers are forked from. The last word is its socket."""
    threads: int = 1
    certificate: str | None = None
    """For TLS, a PEM file; TorchServe's own, whose management API is asked with TLS, too."""
    private_key: str | None = None
    cors: dict[str, str] | None = None
    """The fields of `Cors`, if pages of other sites may ask."""

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
            max_body_bytes=self.max_body_bytes,
            answer_within_s=self.answer_within_s + AFTER_WORKER_S,
            certificate=self.certificate,
            private_key=self.private_key,
            cors=Cors(**self.cors) if self.cors else None,
        )


def settings_file(settings: Settings) -> Path:
    """Writes the controller's argument into the front's folder."""
    path = Path(settings.folder) / SETTINGS_FILE
    atomic_write(path, json.dumps(asdict(settings)))
    return path


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


def look(
    settings: Settings, tokens: Tokens, keys: KeysFile, defaults: Defaults, exchange: Exchange
) -> Registered:
    """What is served now."""
    tokens.look()
    if wrong := keys.look():
        say(wrong)
    workers = announced_in(Path(settings.workers))
    return Registered(
        workers=workers,
        withdrawn=exchange.withdrawn(),
        failing=failing_in(Path(settings.workers), workers),
        defaults=defaults.versions,
        idle=defaults.idle,
        with_tokens=settings.with_tokens,
        token=tokens.current if settings.with_tokens else None,
        tokens=tokens.valid() if settings.with_tokens else (),
        keys=keys.keys if settings.with_tokens else (),
    )


def run(settings: Settings, keeper: int) -> None:
    """Keeps the front up until TorchServe ends. `keeper` is the process that starts another one of
    this kind if this one ends."""
    management = Management(settings.management, settings.certificate)
    tokens, defaults = Tokens(Path(settings.key_file), management), Defaults(management)
    while settings.with_tokens and not tokens.current and runs(settings.pid):
        tokens.look()  # without a token everybody would be let in
        time.sleep(LOOK_EVERY_S)
    files, exchange = Files(settings.front), Exchange(Path(settings.folder))
    keys = KeysFile(Path(settings.keys_file))
    defaults.look(tokens.management, in_a_hurry=True)
    threading.Thread(target=ask_for_ever, args=(tokens, defaults, exchange), daemon=True).start()
    registered = look(settings, tokens, keys, defaults, exchange)
    processes = Processes(settings, keeper, lambda: files.start(registered))
    drains, watch, said = False, Watch(), None
    try:
        while runs(settings.pid):
            try:
                processes.look()
                if (now := look(settings, tokens, keys, defaults, exchange)) != registered:
                    say_failing(registered, now)
                    files.update(now)
                    registered = now
                if (served := served_by(registered)) != said:
                    exchange.write_served(served)
                    said = served
                if damaged := [*files.restore(), *exchange.restore()]:
                    say(f"Somebody has changed {', '.join(damaged)}; written again")
                watch.look(registered.workers)
                if not drains:
                    processes.replace_useless()
                roll(Path(settings.log))
            except Exception:  # such as a full disk: Envoy goes on with the files that it has
                say(traceback.format_exc())
                time.sleep(AFTER_FAILURE_S)
            if not drains and Path(settings.stopping_file).exists():
                drains = True
                processes.admin.drain()
            time.sleep(LOOK_EVERY_S)
    finally:
        processes.end()


class Processes:
    """Envoy, the template, and the keeper if it has ended."""

    def __init__(self, settings: Settings, keeper: int, write_files: Callable[[], Path]) -> None:
        """`write_files` returns the file that Envoy is started with."""
        log, binary = Path(settings.log), Path(settings.envoy)
        deaths = Deaths(Path(settings.deaths))
        # The files before each start: whatever became of them, Envoy begins with good ones.
        self._envoy = Supervisor(
            ENVOY, lambda: start_envoy(binary, write_files(), log, settings.threads), deaths
        )
        self.admin = Admin(admin_socket(settings.front.folder))
        self._template = self._probe = None
        if settings.template:
            self._probe = Probe(Path(settings.template[-1]))
            self._template = Supervisor(TEMPLATE, lambda: start(settings.template, log), deaths)
        self._settings = settings
        self._keeper = Keeper(KEEPER, keeper, self._start_keeper, deaths)

    def look(self) -> None:
        """Starts what does not run."""
        self._keeper.look()
        self._envoy.look()
        if self._template:
            self._template.look()

    def replace_useless(self) -> None:
        """Ends what runs but does not work, to be started again."""
        self._envoy.end_useless(self.admin.is_ready)
        if self._template and self._probe:
            self._probe.look()
            if self._probe.hangs(self._template.started):
                self._template.kill("does not answer")

    def end(self) -> None:
        """Ends them all."""
        for each in (self._envoy, self._template, self._keeper):
            if each:
                each.end()

    def _start_keeper(self) -> subprocess.Popen[bytes]:
        path = Path(self._settings.folder) / SETTINGS_FILE
        with Path(self._settings.log).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", MODULE, str(path), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def served_by(registered: Registered) -> Served:
    """What is said of a front with these files."""
    return Served(
        defaults=registered.defaults,
        versions=frozenset(registered.sockets()),
        failing=registered.failing,
    )


def say_failing(before: Registered, now: Registered) -> None:
    """Says which versions went out of service, and which are back."""
    for name, version in sorted(now.failing - before.failing):
        say(
            f"{name} {version} is out of service: its workers died more than "
            f"{MOST_DEATHS} times each within {DEATHS_WITHIN_S:.0f} s"
        )
    for name, version in sorted(before.failing - now.failing):
        say(f"{name} {version} is in service again")


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
            if not worker.replaced
            and (progress := read_progress(progress_file(worker)))
            and progress.hangs(worker.answer_within_s, now)
        }
        for worker in hanging.values():
            if worker.pid not in self._hangs_since and worker.dumps:
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, DUMP_SIGNAL)
        self._hangs_since = {pid: self._hangs_since.get(pid, now) for pid in hanging}
        for pid, since in self._hangs_since.items():
            if now - since >= CONFIRMED_AFTER_S:
                worker = hanging[pid]
                say(
                    f"A worker of {worker.name} {worker.version} (process {pid}) makes no "
                    "progress, so it is killed. Unless it was stopped, model_log.log says where "
                    "its threads were."
                )
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def main() -> None:
    """Runs until TorchServe ends, or until SIGTERM. What does the work is a child process, which is
    replaced if it ends, or at first the process that is given."""
    settings = Settings(**json.loads(Path(sys.argv[1]).read_text()))
    keep(
        NAME,
        lambda keeper: run(settings, keeper),
        lambda: runs(settings.pid),
        Deaths(Path(settings.deaths)),
        *map(int, sys.argv[2:]),
    )


if __name__ == "__main__":
    main()
