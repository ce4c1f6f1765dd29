"""The server that the faults are done to: started, killed and started again by `shipway` itself."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.variants import with_code
from shipway.archive.inspect import inspect_mar
from shipway.archive.pack import pack
from shipway.artifact.bundle import Artifact
from shipway.engines.errors import NoServer, ServerError
from shipway.engines.protocol import ModelVersion
from shipway.engines.state import ServerRecord, StateDirectory
from shipway.engines.torchserve import launch
from shipway.engines.torchserve.front import WORKERS
from shipway.engines.torchserve.inference import HttpPredictor
from shipway.engines.torchserve.management import ManagementClient
from shipway.releases.readiness import ask_why_not_ready
from shipway.releases.rollout import changing
from shipway.releases.settings import version_of
from tests.conftest import retold
from tests.faults.disks import SIZE, Disk, mounted
from tests.servers import REPOSITORY, SHIPWAY, until, write_config

HURT, NEIGHBOUR = "hurt", "neighbour"
"""The model that faults are done to, two workers; one beside it that nothing is done to."""
HURT_WORKERS = 2
BATCH = 4
RESPONSE_TIMEOUT_S = 4
"""Of the model that is hurt; `shipway package` writes 60."""
ROW = [0.3, -1.2, 0.8, 0.1, 2.0]
RUN_S = 0.02
"""What a run of the model that is hurt takes at least, so that a fault finds some under way."""
STORE, TEMPORARY, STATE = DISKS = ("model_store", "temporary", ".shipway")
"""Folders of a site."""
METRICS = "metrics"
SHM = "/dev/shm"
ENVOY = "--config-path"
"""In the command of Envoy alone."""
NO_SMALL_DISKS = "no small disk may be mounted here: that takes root"

FAULTS = ("raises", "hangs", "crashes", "exits", "eats", "drops", "adds")
FIRST_FAULT = 1000
PROGRAM = f"""
import ctypes
import sys
import time

import numpy as np

import shipway.runtime.model as _model

_open_program = _model.open_program


def _misbehaving(*args, **kwargs):
    program = _open_program(*args, **kwargs)
    run = program.run

    def misbehave(inputs):
        time.sleep({RUN_S})
        wanted = int(inputs[0][:, 0].max()) - {FIRST_FAULT}
        does = {FAULTS}[wanted] if wanted >= 0 else None
        if does == "raises":
            raise RuntimeError("made to fail")
        if does == "hangs":
            time.sleep(3600)
        if does == "crashes":
            ctypes.string_at(0)
        if does == "exits":
            sys.exit(1)
        if does == "eats":
            np.empty(1 << 60, np.uint8)
        outputs = run(inputs)
        if does == "drops":
            return [each[:-1] for each in outputs]
        if does == "adds":
            return [np.concatenate([each, each]) for each in outputs]
        return outputs

    program.run = misbehave
    return program


_model.open_program = _misbehaving
"""


def row_that(fault: str) -> list[float]:
    """What makes the program of the model that is hurt do so."""
    return [float(FIRST_FAULT + FAULTS.index(fault)), *ROW[1:]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    folder: Path
    state: StateDirectory
    has_small_disks: bool
    """For each of DISKS one that may be filled; that takes the right to mount them."""
    mars: Mapping[str, Path]
    """Archives by model and version, `NAME-VERSION`; not in the store."""
    has_front: bool = False

    def shipway(self, *words: object) -> subprocess.CompletedProcess[str]:
        """A command as a person types it."""
        return subprocess.run(
            [*SHIPWAY, *map(str, words), "--state", self.state.path],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def begin(self, *words: object) -> subprocess.Popen[str]:
        """One that goes on meanwhile."""
        return subprocess.Popen(
            [*SHIPWAY, *map(str, words), "--state", self.state.path],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def serve(self) -> subprocess.CompletedProcess[str]:
        command = [*SHIPWAY, "serve", "--background", "--state", str(self.state.path)]
        command += ["--config", str(self.folder / "config.properties")]
        if self.has_small_disks:
            # Only this server, and what it starts, sees that one.
            mounted = f'mount -t tmpfs -o size={SIZE} tmpfs {SHM} && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", mounted, "sh", *command]
        return subprocess.run(
            command,
            cwd=REPOSITORY,
            env=os.environ | {"TMPDIR": str(self.folder / TEMPORARY)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def disk(self, name: str) -> Disk:
        """One of DISKS, or METRICS."""
        assert self.has_small_disks
        if name == METRICS:
            return Disk(Path(f"/proc/{self.record.pid}/root{SHM}"))
        return Disk(self.folder / name)

    @property
    def record(self) -> ServerRecord:
        return self.state.require_running()

    def process(self, words: str) -> psutil.Process:
        """The only one of the server's whose command has these words."""
        [found] = [each for each in self.record.processes() if words in _command_of(each)]
        return found

    @property
    def listener(self) -> psutil.Process:
        """What clients connect to."""
        return self.process(ENVOY) if self.has_front else psutil.Process(self.record.pid)

    def models(self) -> list[ModelVersion]:
        with closing(ManagementClient(self.state)) as management:
            return management.models()

    def workers(self, model: str = HURT) -> tuple[int, ...]:
        return tuple(pid for one in self.models() if one.name == model for pid in one.worker_pids)

    def ask(self, row: object, model: str = HURT) -> object:
        """The answer; raises ServerError."""
        with closing(HttpPredictor(self.state)) as predictor:
            body = json.dumps(row).encode()
            return predictor.predict(model, body, content_type="application/json")

    def is_whole(self, without: frozenset[int] = frozenset()) -> bool:
        """Everything that should be served is, by workers none of which is among `without`."""
        try:
            there = {pid for one in self.models() for pid in one.worker_pids}
            return (
                not there & without
                and there <= self._taken(there)
                and all(map(psutil.pid_exists, there))
                and not ask_why_not_ready(self.state)
                and all(self.ask(ROW, model) for model in (HURT, NEIGHBOUR))
            )
        except (ServerError, ValueError, OSError):  # it starts, it ends
            return False

    def _taken(self, workers: set[int]) -> set[int]:
        """Those of `workers` that get requests. TorchServe knows a forked one before it has loaded
        its model, and the front after that."""
        if not self.has_front:
            return workers
        folder = Path(self.record.launch) / WORKERS
        return {json.loads(path.read_bytes())["pid"] for path in folder.glob("*.json")}

    def await_end_of_one(self, among: tuple[int, ...], within_s: float) -> frozenset[int]:
        """The processes that ended."""
        until(lambda: not all(map(psutil.pid_exists, among)), within_s)
        return frozenset(pid for pid in among if not psutil.pid_exists(pid))


def _command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def archives_of(table: Artifact, folder: Path) -> dict[str, Path]:
    """The archives of a site, made from one small artifact."""

    def packed(name: str, version: str) -> Path:
        artifact = retold(table, folder / f"{name}-{version}", name=name, version=version)
        return pack(artifact, folder / "packed")

    plain = {(NEIGHBOUR, version): packed(NEIGHBOUR, version) for version in ("1.0", "2.0")}
    hurt = with_code(
        packed(HURT, "1.0"),
        folder / "misbehaving" / f"{HURT}-1.0.mar",
        PROGRAM,
        {"responseTimeout": RESPONSE_TIMEOUT_S},
    )
    return {mar.stem: mar for mar in (*plain.values(), hurt)}


@contextmanager
def open_site(table: Artifact, folder: Path, *, front: bool) -> Iterator[Site]:
    """A server with both models, on small disks where they may be mounted."""
    with ExitStack() as stack:
        mounts = [stack.enter_context(mounted(folder / each)) for each in DISKS]
        write_config(folder, front="on" if front else "off")
        site = Site(
            folder=folder,
            state=StateDirectory(folder / STATE),
            has_small_disks=all(mounts),
            mars=archives_of(table, folder / "archives"),
            has_front=front,
        )
        started = site.serve()
        if started.returncode:
            raise RuntimeError(started.stderr)
        stack.callback(stop, site)
        for name, workers in ((HURT, HURT_WORKERS), (NEIGHBOUR, 1)):
            mar = shutil.copy(site.mars[f"{name}-1.0"], folder / STORE)
            wanted = version_of(
                inspect_mar(Path(mar)),
                folder / STORE,
                batch_size=BATCH,
                max_batch_delay_ms=0,
                workers=workers,
            )
            with changing(site.state, f"registering {name}") as rollout:
                rollout.register(name, "1.0", wanted)
        yield site


def stop(site: Site) -> None:
    with suppress(NoServer):  # a fault may have left none; what it left on disk is cleared
        launch.stop(site.state)
