"""Half of a server's capacity for a long time: does anything fail, and does memory grow?

    python -m benchmarks.soak [--mar MAR] [--minutes 10]

A leak shows only after a while, and at first the buffers of a busy server look like one. So the
server gets requests in an open loop, at half the rate that it answered in a closed loop, and the
memory of its workers, of TorchServe and of the exporter is sampled once a second. Targets: no
error, no restarted worker, and no process more than 3% larger at the end than after the first five
minutes, or after half of a run shorter than ten. The last line is JSON;
benchmarks/results/soak.json has the memory over time.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import psutil
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from benchmarks.study import RESULTS, Outcome, at_least, at_most, exit_on_sigterm, finish
from shipway.archive.inspect import MarInfo, inspect_mar
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve.temporary import ServedModel, registered, temporary_server
from shipway.errors import ShipwayError
from shipway.files import atomic_write
from shipway.loadtest import preflight
from shipway.loadtest.load_test import LoadTest
from shipway.loadtest.result import Progress, Result
from shipway.loadtest.runner import measure
from shipway.loadtest.shapes.base import LoadShape
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.shapes.open import OpenLoop
from shipway.releases.exporter_process import MODULE, exporter_command
from shipway.runtime.host import describe_host

MODEL = Path("model_store/efficientnet_lite0-1.0.mar")
SHARE = 0.5
"""Of the capacity."""
CAPACITY_CLIENTS = 16
CAPACITY_S = 10.0
SETTLED_AFTER_S = 300.0
GROWTH = 0.03
COMPARED = 0.1
"""Share of the samples after settling: the median of the last ones is compared with the first."""
LEVELS = "▁▂▃▄▅▆▇█"
WIDTH = 48

# Into a file the table may be as wide as it is; 80 columns would break its lines.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


class Memory:
    """The resident memory of a server's processes over time."""

    def __init__(self, processes: Mapping[str, int], settled_after_s: float) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in processes.items()}
        self._settled_after_s = settled_after_s
        self.seconds: list[float] = []
        self.megabytes: dict[str, list[float]] = {name: [] for name in processes}

    def take(self, at: float) -> None:
        """Raises psutil.NoSuchProcess if one has ended."""
        self.seconds.append(round(at, 1))
        for name, process in self._processes.items():
            self.megabytes[name].append(round(process.memory_info().rss / 1e6, 2))

    def settled(self, name: str) -> list[float]:
        both = zip(self.seconds, self.megabytes[name], strict=True)
        return [size for at, size in both if at >= self._settled_after_s]

    def growth(self, name: str) -> float | None:
        """Growth since it settled, as a share; None if there are too few samples."""
        found = self.settled(name)
        few = max(1, int(COMPARED * len(found)))
        if len(found) < 2 * few:
            return None
        return statistics.median(found[-few:]) / statistics.median(found[:few]) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--mar", type=Path, default=MODEL)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    exit_on_sigterm()
    info = inspect_mar(given.mar.absolute())
    with serving(info) as (state, served):
        record, targets = soak(state, served, info, 60 * given.minutes)
    given.out.mkdir(parents=True, exist_ok=True)
    atomic_write(given.out / "soak.json", json.dumps(record) + "\n")
    console.print({name: figure for name, figure in record.items() if name != "memory"})
    finish(targets)


@contextmanager
def serving(info: MarInfo) -> Iterator[tuple[StateDirectory, ServedModel]]:
    """A server of its own with the archive, as it is recommended to be served."""
    with (
        tempfile.TemporaryDirectory(prefix="shipway-bench-") as folder,
        temporary_server(
            Path(folder), info.path.parent, exporter_command=exporter_command
        ) as state,
        registered(
            state,
            info.path,
            workers=info.workers,
            batch_size=info.batch_size,
            delay_ms=info.max_batch_delay_ms,
        ) as served,
    ):
        yield state, served


def soak(
    state: StateDirectory,
    served: ServedModel,
    info: MarInfo,
    seconds: float,
    *,
    beside: Callable[[], AbstractContextManager[object]] = nullcontext,
    growth: float = GROWTH,
) -> tuple[dict[str, object], dict[str, Outcome]]:
    """Runs the load for `seconds`; returns the record for soak.json and the targets.

    `beside` is entered while the load runs; `growth` is the most of each process, as a share.
    """
    ready = preflight.local_model(state, info.name, None, grpc=False, headers={})

    def load_test(load: LoadShape, for_s: float) -> LoadTest:
        return LoadTest(
            target=ready.target,
            headers=ready.headers,
            inputs=ready.inputs,
            load=load,
            seconds=for_s,
        )

    capacity = measure(load_test(ClosedLoop(clients=CAPACITY_CLIENTS), CAPACITY_S)).rate
    load = OpenLoop(rate=round(SHARE * capacity, 1))
    settled_after_s = min(SETTLED_AFTER_S, seconds / 2)
    console.print(
        f"{info.name} {info.version} answers {capacity:.0f} a second with {CAPACITY_CLIENTS} "
        f"clients; {load} for {seconds / 60:g} minutes. Memory counts after {settled_after_s:.0f} s"
        + ("." if settled_after_s == SETTLED_AFTER_S else ", half of this short run.")
    )
    memory = Memory(_processes_of(state, served), settled_after_s)
    start = time.monotonic()
    with Live(console=console, refresh_per_second=2) as live, beside():

        def watch(progress: Progress) -> None:
            memory.take(time.monotonic() - start)
            live.update(_page(memory, progress, seconds))

        result = measure(load_test(load, seconds), watch)
        live.update(_page(memory, None, seconds))
    if not console.is_terminal:
        console.line()  # rich ends its last line on terminals only
    grown = {name: memory.growth(name) for name in memory.megabytes}
    targets = outcomes(result, grown, growth)
    missed = [name for name, outcome in targets.items() if not outcome.met]
    for error in result.errors:
        console.print(f"{error.count} errors: {error}", style="red")
    record: dict[str, object] = {
        "model": f"{info.name} {info.version}",
        "minutes": round(seconds / 60, 2),
        "settled_after_s": settled_after_s,
        "capacity": round(capacity, 1),
        "rate": load.rate,
        "answered": result.answered,
        "errors": result.failed,
        "p50_ms": result.latency and result.latency.p50_ms,
        "p99_ms": result.latency and result.latency.p99_ms,
        "growth": {name: each if each is None else round(each, 4) for name, each in grown.items()},
        "megabytes": {name: sizes[-1] for name, sizes in memory.megabytes.items()},
        "host": describe_host().model_dump(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "not_kept": missed,
        "passed": not missed,
        "memory": {"seconds": memory.seconds, "megabytes": memory.megabytes},
    }
    return record, targets


def outcomes(
    result: Result, grown: Mapping[str, float | None], most: float = GROWTH
) -> dict[str, Outcome]:
    """The targets: answers, no errors, and no process that grew by more than `most`. `grown` are
    shares, None for a process that was not observed for long enough."""
    return {
        "answered": at_least(result.answered, 1),
        "errors": at_most(result.failed, 0),
    } | {
        f"growth of {name}": at_most(None if share is None else round(share, 4), most)
        for name, share in grown.items()
    }


def _processes_of(state: StateDirectory, served: ServedModel) -> dict[str, int]:
    record = state.require_running()
    exporters = {each.pid: each for each in record.processes() if MODULE in each.cmdline()}
    [exporter] = [each for each in exporters.values() if each.ppid() in exporters]
    workers = {f"worker {place}": pid for place, pid in enumerate(served.workers, 1)}
    return {"TorchServe": record.pid, "exporter": exporter.pid, **workers}


def _page(memory: Memory, progress: Progress | None, seconds: float) -> Group:
    table = Table(box=None, pad_edge=False)
    for title in ("process", "MB", "since settled", "memory over time"):
        table.add_column(title, justify="left" if title[0] in "pm" else "right")
    for name, sizes in memory.megabytes.items():
        growth = memory.growth(name)
        told = "…" if growth is None else f"{growth:+.1%}"
        style = "red" if growth is not None and growth > GROWTH else ""
        table.add_row(name, f"{sizes[-1]:.0f}", Text(told, style), _drawn(sizes))
    if progress is None:
        return Group(table)
    at = max(0.0, progress.at)
    p99 = "" if progress.p99_ms is None else f", p99 {progress.p99_ms:.0f} ms"
    said = (
        f"{at:.0f} of {seconds:.0f} s: {progress.rate:.0f} a second{p99}, {progress.failed} errors"
    )
    return Group(Text(said), table)


def _drawn(sizes: Sequence[float]) -> str:
    """The sizes as a row of bars, scaled between the smallest and the largest."""
    low, high = min(sizes), max(sizes)
    step = max(1, len(sizes) // WIDTH)
    levels = [int((each - low) / ((high - low) or 1) * (len(LEVELS) - 1)) for each in sizes[::step]]
    return f"{low:.0f} {''.join(LEVELS[each] for each in levels[-WIDTH:])} {high:.0f}"


if __name__ == "__main__":
    try:
        main()
    except psutil.NoSuchProcess as error:
        sys.exit(f"error: process {error.pid} of the server ended during the load")
    except ShipwayError as error:
        sys.exit(f"error: {error}")
