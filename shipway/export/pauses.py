"""Tells how long the threads of this process were kept from running: by other programs on the
machine, or by the host of a virtual machine.

Linux counts it: /proc/self/task/*/schedstat has the time that a thread could run and waited for a
core, /proc/stat the time that the host of a virtual machine gave to others ("steal"). Where a
kernel lacks them, only the processor time of a run is known.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

WAKE_UP_MS = 0.05
"""A wait up to this is part of a wake-up: an idle virtual core needs it with nobody else there.
Another program keeps a core for a time slice, which is 0.7 ms and longer."""
_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One run, timed."""

    wall_ms: float
    processor_ms: float
    """Of all threads together."""
    waited_ms: float | None
    """For a core, all threads together; None where the kernel does not tell."""
    paused_ms: float | None
    """The same without what each wake-up takes anyway."""


class Clock(Protocol):
    """Times runs. The tests have one that is told what to say."""

    def begin_turn(self) -> None:
        """Prepares for runs of a program, which may have started threads."""
        ...

    def time(self, run: Callable[[], object]) -> Usage:
        """Runs and times it."""
        ...

    def steal_share(self) -> float:
        """The share of this process's cores that went to other virtual machines, since the last
        call; 0 where it is not known."""
        ...


class PauseClock:
    """The clock of this process. `proc` is where the kernel's counters are."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._schedstats: dict[str, int] = {}
        """Open files by thread: opening them for each run would take longer than many runs."""
        self._tells = _tells(proc)
        self._steal = self._read_steal()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._schedstats.values():
            os.close(file)
        self._schedstats.clear()

    def begin_turn(self) -> None:
        """Finds the threads that were started since the last turn."""
        if not self._tells:
            return
        for task in (self._proc / "self" / "task").iterdir():
            if task.name in self._schedstats:
                continue
            try:
                self._schedstats[task.name] = os.open(task / "schedstat", os.O_RDONLY)
            except OSError:  # it has ended
                continue

    def time(self, run: Callable[[], object]) -> Usage:
        """Runs and times it."""
        waits = self._read_waits()
        processor = time.process_time_ns()
        start = time.perf_counter_ns()
        run()
        wall = time.perf_counter_ns() - start
        processor = time.process_time_ns() - processor
        waited = paused = None
        if self._tells:
            waited = paused = 0.0
            for thread, (wait, turns) in self._read_waits().items():
                wait_before, turns_before = waits.get(thread, (wait, turns))
                waited_ms = (wait - wait_before) / _NS_PER_MS
                waited += waited_ms
                paused += max(0.0, waited_ms - (turns - turns_before) * WAKE_UP_MS)
        return Usage(
            wall_ms=wall / _NS_PER_MS,
            processor_ms=processor / _NS_PER_MS,
            waited_ms=waited,
            paused_ms=paused,
        )

    def steal_share(self) -> float:
        """The share of this process's cores that was stolen since the last call."""
        stolen_ms, at_ms, cores = self._steal
        self._steal = self._read_steal()
        elapsed_ms = self._steal[1] - at_ms
        if not cores or elapsed_ms <= 0:
            return 0.0
        return min(1.0, max(0.0, self._steal[0] - stolen_ms) / (elapsed_ms * cores))

    def _read_waits(self) -> dict[str, tuple[int, int]]:
        """By thread: nanoseconds waited for a core, and how often it got one."""
        waits = {}
        for thread, file in list(self._schedstats.items()):
            try:
                _, wait, turns = os.pread(file, 96, 0).split()
            except (OSError, ValueError):  # it has ended
                os.close(self._schedstats.pop(thread))
                continue
            waits[thread] = (int(wait), int(turns))
        return waits

    def _read_steal(self) -> tuple[float, float, int]:
        """Milliseconds stolen from this process's cores, the time, and how many cores those are."""
        ours = {f"cpu{core}" for core in _cores()}
        stolen_ms, cores = 0.0, 0
        try:
            lines = (self._proc / "stat").read_text().splitlines()
        except OSError:
            lines = []
        for line in lines:
            name, *ticks = line.split()
            if name in ours and len(ticks) > 7:
                stolen_ms += 1000 * int(ticks[7]) / os.sysconf("SC_CLK_TCK")
                cores += 1
        return stolen_ms, 1000 * time.perf_counter(), cores


def _cores() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set()


def _tells(proc: Path) -> bool:
    """Whether the kernel counts waits. Some have the file and write only zeros into it."""
    try:
        fields = (proc / "self" / "schedstat").read_text().split()
    except OSError:
        return False
    return len(fields) == 3 and any(int(field) for field in fields)
