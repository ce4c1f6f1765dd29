"""Waits are the kernel's own counts; where it has none, that is known too."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipway.export.pauses import WAKE_UP_MS, PauseClock


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """The counters of a process with two threads, on every core of this machine."""
    write(tmp_path, "1", wait_ns=5_000_000, turns=10)
    write(tmp_path, "2", wait_ns=0, turns=1)
    (tmp_path / "self" / "schedstat").write_text("9 5000000 10\n")
    steal(tmp_path, 0)
    return tmp_path


def write(kernel: Path, thread: str, *, wait_ns: int, turns: int) -> None:
    task = kernel / "self" / "task" / thread
    task.mkdir(parents=True, exist_ok=True)
    (task / "schedstat").write_text(f"123 {wait_ns} {turns}\n")


def steal(kernel: Path, ticks: int) -> None:
    lines = [f"cpu{core} 1 2 3 4 5 6 7 {ticks} 0 0" for core in range(os.cpu_count() or 1)]
    (kernel / "stat").write_text("\n".join(["cpu  9 9 9 9 9 9 9 9 0 0", *lines, "intr 5"]) + "\n")


def test_the_waits_of_all_threads_are_added_up_without_those_of_wake_ups(kernel):
    def run() -> None:
        write(kernel, "1", wait_ns=9_000_000, turns=11)  # another program had the core for 4 ms
        write(kernel, "2", wait_ns=400_000, turns=21)  # 20 wake-ups of 20 µs

    with PauseClock(kernel) as clock:
        clock.begin_turn()
        usage = clock.time(run)
    assert usage.waited_ms == pytest.approx(4.4)
    assert usage.paused_ms == pytest.approx(4.0 - WAKE_UP_MS)


def test_threads_that_start_or_end_between_turns_do_no_harm(kernel):
    with PauseClock(kernel) as clock:
        clock.begin_turn()
        write(kernel, "3", wait_ns=70_000_000, turns=1)
        # An empty file stands for a thread that has ended: its counters do not read.
        (kernel / "self" / "task" / "2" / "schedstat").write_text("")
        clock.begin_turn()
        usage = clock.time(lambda: write(kernel, "3", wait_ns=72_000_000, turns=2))
    assert usage.waited_ms == pytest.approx(2.0), "not what it waited before"


@pytest.mark.parametrize("counters", [None, "0 0 0\n", "not numbers\n"])
def test_a_kernel_that_counts_no_waits_leaves_the_processor_time(kernel, counters):
    path = kernel / "self" / "schedstat"
    path.unlink()
    if counters is not None:
        path.write_text(counters)
    with PauseClock(kernel) as clock:
        clock.begin_turn()
        usage = clock.time(lambda: spin(0.005))
    assert usage.waited_ms is None and usage.paused_ms is None
    assert 0 < usage.processor_ms <= usage.wall_ms * 1.05


def test_a_system_without_proc_still_measures(tmp_path):
    with PauseClock(tmp_path / "none") as clock:
        clock.begin_turn()
        assert clock.time(lambda: None).waited_ms is None
        assert clock.steal_share() == 0


def test_steal_is_a_share_of_the_cores(kernel):
    clock = PauseClock(kernel)
    time.sleep(0.1)
    steal(kernel, 5)  # 50 ms of each core
    assert 0.1 < clock.steal_share() <= 0.5
    assert clock.steal_share() == 0


@pytest.fixture
def rival() -> Iterator[None]:
    """Another program on the only core that this thread may use."""
    before = os.sched_getaffinity(0)
    core = min(before)
    os.sched_setaffinity(0, {core})
    burner = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=-1
    )
    assert burner.stdout
    burner.stdout.readline()
    yield
    burner.kill()
    burner.wait()
    os.sched_setaffinity(0, before)


@pytest.mark.skipif(not PauseClock()._tells, reason="this kernel counts no waits")
def test_a_real_rival_is_seen(rival):
    with PauseClock() as clock:
        clock.begin_turn()
        usage = clock.time(lambda: spin(0.2))
    assert usage.paused_ms > 0.2 * usage.wall_ms
    assert usage.processor_ms < 0.8 * usage.wall_ms
    assert usage.processor_ms + usage.waited_ms == pytest.approx(usage.wall_ms, rel=0.15)
