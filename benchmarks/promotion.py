"""How a promotion affects the latency of requests that are answered during it.

    python -m benchmarks.promotion [--artifact artifacts/NAME-VERSION] [--promotions 6]

Requests arrive in an open loop, at 70% of the server's capacity, while `shipway promote` starts one
version after the other. The result is the p99 of all requests that were due during a promotion,
divided by the p99 of the time before each: from the start of the command to its end, and from the
start of the new worker. The last line is JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.stock import IMAGES
from benchmarks.study import RESULTS, exit_on_sigterm
from shipway.archive.inspect import MarInfo, inspect_mar
from shipway.archive.pack import pack
from shipway.artifact.bundle import Artifact, open_artifact
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve.management import ManagementClient
from shipway.engines.torchserve.temporary import temporary_server
from shipway.errors import ShipwayError
from shipway.files import atomic_write
from shipway.loadtest import preflight
from shipway.loadtest.load_test import LoadTest
from shipway.loadtest.runner import generator_process, measure
from shipway.loadtest.shapes.base import LoadShape
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.shapes.open import OpenLoop
from shipway.loadtest.sweep import CAPACITY_CLIENTS
from shipway.loadtest.ticks import Tick
from shipway.releases.exporter_process import exporter_command
from shipway.releases.rollout import changing
from shipway.releases.settings import version_of
from shipway.runtime.host import describe_host

SHARE = 0.7
"""Of the capacity."""
CAPACITY_S = 10.0
SETTLES_S = 5.0
"""After a version was unregistered; left out."""
CALM_S = 8.0
"""Before each promotion, to compare with."""
LONGEST_S = 3600.0
"""Of the load, which ends with the last promotion."""


@dataclass(slots=True)
class Traffic:
    """What an open loop tells while it lasts. Moments are seconds since its start."""

    zero: float = 0.0
    """Its start on this process's monotonic clock, to some milliseconds."""
    answers: list[tuple[float, float]] = field(default_factory=list)
    """When each was to be sent, and its milliseconds."""
    errors: int = 0

    def now(self) -> float:
        return time.monotonic() - self.zero

    def read(self, lines: Iterator[bytes]) -> None:
        for tick in map(Tick.read, lines):
            heard = time.monotonic() - tick.at
            self.zero = min(self.zero or heard, heard)
            self.answers += [(each[0], each[1] / 1000) for each in tick.answers]
            self.errors += sum(each[-1] for each in tick.errors)

    def between(self, start: float, end: float) -> list[float]:
        return [each for sent, each in self.answers if start <= sent < end]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted:
    """One promotion, in the traffic's time."""

    calm_since: float
    start: float
    worker_start: float
    end: float
    cpu_s: float
    """What the new worker's start took."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--artifact", type=Path, default=IMAGES)
    parser.add_argument("--promotions", type=int, default=6)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    exit_on_sigterm()
    artifact = open_artifact(given.artifact)
    with tempfile.TemporaryDirectory(prefix="shipway-bench-") as temporary:
        found = promoted(artifact, Path(temporary), given.promotions)
    record = found | {
        "host": describe_host().model_dump(),
        "packages": artifact.manifest.packages,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    atomic_write(given.out / "promotion.json", json.dumps(record, indent=1) + "\n")
    print(json.dumps(found))


def promoted(artifact: Artifact, folder: Path, promotions: int) -> dict[str, Any]:
    """What so many promotions on a server of their own do to the requests of an open loop.

    `folder` is an empty one.
    """
    infos = [
        inspect_mar(pack(as_version(artifact, f"{number}.0"), folder / "store"))
        for number in range(1, promotions + 2)
    ]
    with temporary_server(folder, folder / "store", exporter_command=exporter_command) as state:
        rate, traffic, made = measured(state, infos)
    return {
        "model": artifact.manifest.name,
        "rate": rate,
        "share_of_capacity": SHARE,
        **report(traffic, made),
    }


def as_version(artifact: Artifact, version: str) -> Artifact:
    return replace(artifact, manifest=artifact.manifest.model_copy(update={"version": version}))


def measured(state: StateDirectory, infos: list[MarInfo]) -> tuple[float, Traffic, list[Promoted]]:
    """Registers the first version, and promotes each of the others under load."""
    first, *others = infos
    with changing(state, "registering") as rollout:
        rollout.register(first.name, first.version, version_of(first, first.path.parent))
    ready = preflight.local_model(state, first.name, None, grpc=False, headers={})

    def plan(load: LoadShape, seconds: float) -> LoadTest:
        return LoadTest(
            target=ready.target,
            headers=ready.headers,
            inputs=ready.inputs,
            load=load,
            seconds=seconds,
        )

    capacity = measure(plan(ClosedLoop(clients=CAPACITY_CLIENTS), CAPACITY_S)).rate
    rate = round(SHARE * capacity, 1)
    print(f"{first.name}: {capacity:.0f} requests a second at most; sent are {rate}", flush=True)
    promotions = []
    with under_load(plan(OpenLoop(rate=rate), LONGEST_S)) as traffic:
        for before, info in zip(infos, others, strict=False):
            promotions.append(promote(state, traffic, info.name, info.version))
            with changing(state, "unregistering") as rollout:
                rollout.unregister(info.name, before.version)
    return rate, traffic, promotions


@contextmanager
def under_load(plan: LoadTest) -> Iterator[Traffic]:
    traffic = Traffic()
    with generator_process(plan) as process:
        assert process.stdin and process.stdout
        reading = threading.Thread(target=traffic.read, args=(process.stdout,))
        reading.start()
        while not traffic.zero:
            time.sleep(0.1)
        yield traffic
        process.stdin.close()
        reading.join()


def promote(state: StateDirectory, traffic: Traffic, name: str, version: str) -> Promoted:
    """Raises CalledProcessError if the command fails."""
    time.sleep(SETTLES_S)
    calm_since = traffic.now()
    time.sleep(CALM_S)
    start = traffic.now()
    subprocess.run(
        [sys.executable, "-m", "shipway.cli.main", "promote", name, version, "--state", state.path],
        stdout=subprocess.DEVNULL,
        check=True,
        start_new_session=True,  # as from another terminal
    )
    end = traffic.now()
    with closing(ManagementClient(state)) as management:
        [new] = [each for each in management.describe(name) if each.version == version]
    workers = [psutil.Process(pid) for pid in new.worker_pids]
    age_s = max(time.time() - each.create_time() for each in workers)
    return Promoted(
        calm_since=calm_since,
        start=start,
        worker_start=traffic.now() - age_s,
        end=end,
        cpu_s=max(sum(each.cpu_times()[:2]) for each in workers),
    )


def report(traffic: Traffic, promotions: list[Promoted]) -> dict[str, object]:
    spans = {
        "steady": [(each.calm_since, each.start) for each in promotions],
        "promoting": [(each.start, each.end) for each in promotions],
        "starting": [(each.worker_start, each.end) for each in promotions],
    }
    for place, each in enumerate(promotions):
        p99s = (f"{name} {p99(traffic.between(*of[place])):.1f} ms" for name, of in spans.items())
        print(
            f"{each.end - each.start:.1f} s, the worker {each.end - each.worker_start:.1f} s "
            f"and {each.cpu_s:.1f} CPU seconds; p99: {', '.join(p99s)}"
        )
    of = {
        name: [each for span in found for each in traffic.between(*span)]
        for name, found in spans.items()
    }
    return {
        "ratio": round(p99(of["promoting"]) / p99(of["steady"]), 2),
        "ratio_from_the_workers_start": round(p99(of["starting"]) / p99(of["steady"]), 2),
        "errors": traffic.errors,
        "p99_ms": {name: round(p99(found), 1) for name, found in of.items()},
        "requests": {name: len(found) for name, found in of.items()},
        "seconds": [round(each.end - each.start, 1) for each in promotions],
        "worker_cpu_s": [round(each.cpu_s, 1) for each in promotions],
    }


def p99(times_ms: list[float]) -> float:
    """An observed one."""
    return float(np.percentile(times_ms, 99, method="inverted_cdf"))


if __name__ == "__main__":
    try:
        main()
    except ShipwayError as error:
        sys.exit(f"error: {error}")
