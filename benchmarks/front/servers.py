"""Servers of ours for these measurements, and what can be read off their workers."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.front.wrk import Wrk
from benchmarks.peers.table import Sample
from shipway.archive.inspect import inspect_mar
from shipway.archive.pack import pack
from shipway.artifact.bundle import Artifact
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve import template
from shipway.engines.torchserve.temporary import ServedModel, registered, temporary_server
from shipway.errors import ShipwayError
from shipway.front import controller
from shipway.releases.exporter_process import exporter_command

KILL_CLIENTS = 8


@contextmanager
def ours(
    folder: Path, artifact: Artifact, *, front: str, workers: int | None = None
) -> Iterator[tuple[ServedModel, StateDirectory]]:
    """A server of ours as `shipway register` sets it, with that many workers or the recommended
    number; `folder` does not exist yet."""
    folder.mkdir()
    mar = pack(artifact, folder / "store")
    info = inspect_mar(mar)
    with (
        temporary_server(
            folder, folder / "store", exporter_command=exporter_command, front=front
        ) as state,
        registered(
            state, mar, workers=workers or info.workers, batch_size=info.batch_size
        ) as served,
    ):
        yield served, state


def wait_for_front(served: ServedModel, body: bytes, headers: Mapping[str, str]) -> None:
    """Until the front sends requests to the worker: TorchServe forbids caches, workers do not."""
    deadline = time.monotonic() + 30
    headers = {**headers, **served.headers}
    while "pragma" in httpx.post(served.url, content=body, headers=headers).headers:
        if time.monotonic() > deadline:
            raise ShipwayError("The front does not send requests to the worker. See front.log.")
        time.sleep(0.1)


def announced(state: StateDirectory) -> list[dict[str, Any]]:
    """What the workers say of themselves once they are warm."""
    found = []
    for path in (Path(state.require_running().launch) / "workers").glob("*.json"):
        with suppress(FileNotFoundError):  # of a worker that has just died
            found.append(json.loads(path.read_bytes()))
    return found


def processor_us(
    wrk: Wrk, state: StateDirectory, served: ServedModel, clients: int
) -> dict[str, float]:
    """Microseconds of processor time that a request takes, by who spends them, under load."""
    before = _processor_s(state)
    began = time.monotonic()
    sample, wrk_cores = wrk.load_and_cores(served, clients)
    seconds, after = time.monotonic() - began, _processor_s(state)
    requests = sample.rate * seconds
    spent = {who: 1e6 * (after[who] - before[who]) / requests for who in after}
    return {f"{who}_us": each for who, each in spent.items()} | {
        "load_us": 1e6 * wrk_cores / sample.rate
    }


def _processor_s(state: StateDirectory) -> dict[str, float]:
    """Seconds of processor time so far: of Envoy, the workers, and everything else."""
    workers = {each["pid"] for each in announced(state)}
    spent = {"envoy": 0.0, "worker": 0.0, "other": 0.0}
    for each in state.require_running().processes():
        with suppress(psutil.Error):
            who = "worker" if each.pid in workers else "other"
            times = each.cpu_times()
            spent["envoy" if each.name() == "envoy" else who] += times.user + times.system
    return spent


def kill(wrk: Wrk, state: StateDirectory, served: ServedModel) -> dict[str, float]:
    """A worker is killed under load: how many requests are lost, when another is warm, and how
    long it took from its start."""
    others = announced(state)
    pid = others.pop()["pid"]
    loads: list[Sample] = []
    load = threading.Thread(target=lambda: loads.append(wrk.load(served, KILL_CLIENTS, 5.0)))
    load.start()
    time.sleep(2.0)
    os.kill(pid, signal.SIGKILL)
    start = time.monotonic()
    while not (new := _new(state, {pid, *(each["pid"] for each in others)})):
        time.sleep(0.005)
    back_s = time.monotonic() - start
    start_s = time.time() - psutil.Process(new[0]).create_time()
    load.join()
    return {"back_s": back_s, "start_s": start_s, "lost": loads[0].errors}


def _new(state: StateDirectory, known: set[int]) -> list[int]:
    pids = {each["pid"] for each in announced(state)} - known
    return [pid for pid in pids if psutil.pid_exists(pid)]


def memory_of(state: StateDirectory) -> dict[str, float]:
    """Memory in MB that no other process shares: of the largest worker, of the template, and of the
    front's processes without it, which is there for the workers."""
    own = {"worker_mb": 0.0, "front_mb": 0.0, "template_mb": 0.0}
    workers = {each["pid"] for each in announced(state)}
    for each in state.require_running().processes():
        with suppress(psutil.Error):
            command, memory = each.cmdline(), each.memory_full_info().uss / 1e6
            if each.pid in workers:
                own["worker_mb"] = max(own["worker_mb"], memory)
            elif template.__file__ in command:
                own["template_mb"] += memory
            elif each.name() == "envoy" or controller.__name__ in command:
                own["front_mb"] += memory
    return own
