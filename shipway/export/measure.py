"""Measures the latency of programs in turns, and leaves out the runs that something disturbed.

Other programs on the machine take cores away, and the longer a run, the more of them it meets; a
program whose threads wait for each other loses most. So a run counts only if its threads hardly
waited for a core. Where too few runs are that quiet, a run on one thread is counted by its
processor time: it has no other thread to wait for, so that is its time on a quiet machine.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import count
from statistics import median, quantiles

from shipway.artifact.certificate import Basis, Latency, Speedup
from shipway.export.intervals import FEWEST, median_interval
from shipway.export.pauses import WAKE_UP_MS, Clock, PauseClock, Usage
from shipway.runtime.backends.base import Program
from shipway.runtime.batches import Arrays

TURNS = 8
TURNS_FOR_ALL = 2
"""After these turns, only programs that may still be the fastest continue."""
CLOSE = 1.25
"""A program may still be the fastest if its first quartile is within this factor of the best
median."""
RUNS_A_TURN = 4
ENOUGH_MS = 4000
"""A program whose runs would take longer at one shape runs once a turn: long runs vary less."""
LONG_RUNS_FIRST = 3
"""Runs of such a program in each of the first turns: six in all give an interval."""
WARM_UPS = 3
"""Runs before the measurement: TorchScript optimizes itself in its first runs."""
DISTURBED_SHARE = 0.05
"""A run that was paused for a larger share of its time is not quiet."""
DISTURBED_SHARE_COARSE = 0.1
"""The same where pauses are only guessed from processor time."""
NARROW = 0.05
NARROW_MS = 0.01
"""Turns are added until the median is known to within this share, or this time."""
MORE_AT_MOST = 1.0
MORE_AT_MOST_SECONDS = 10.0
"""Added turns take at most as long again as the first ones, and no longer than this."""
COLD_CACHES = 1.3
"""Processor time beside other programs is up to this factor longer than alone, since each pause
leaves other data in the caches. Of two programs it may be one; intervals are wider by it."""
GIVE_UP_TURNS = 5
GIVE_UP_SECONDS = 3.0
"""After both, the turns end if a program on several threads was hardly ever quiet. This is longer
than most programs that are started beside an export, and is measured on one thread instead."""
_SETTLE_SECONDS = 0.005  # OpenMP's threads spin for a while after the last run


class Timings:
    """The timed runs of one program at one shape."""

    def __init__(self, threads: int | None) -> None:
        self._threads = threads
        self._runs: list[tuple[int, Usage, float]] = []

    def add(self, turn: int, usage: Usage, steal_share: float) -> None:
        """Adds a run. `steal_share` is that of the turn."""
        self._runs.append((turn, usage, steal_share))

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def quiet(self) -> list[tuple[int, float]]:
        """Turn and milliseconds of the runs that nothing disturbed."""
        level = self._busy_level()
        return [
            (turn, usage.wall_ms)
            for turn, usage, steal_share in self._runs
            if steal_share <= DISTURBED_SHARE and _is_quiet(usage, level)
        ]

    @property
    def counted(self) -> tuple[Basis, list[tuple[int, float]]]:
        """The runs that count, as turn and milliseconds, and what these are taken from."""
        quiet = self.quiet
        if len(quiet) >= FEWEST:
            return "quiet runs", quiet
        if self._threads == 1:
            kept = [
                (turn, without_waits_ms(usage))
                for turn, usage, steal_share in self._runs
                if steal_share <= DISTURBED_SHARE
            ]
            if len(kept) >= FEWEST:
                return "processor time", kept
        return "all runs", [(turn, usage.wall_ms) for turn, usage, _ in self._runs]

    @property
    def at_least_ms(self) -> list[float]:
        """For every run, a time that it takes on a quiet machine too."""
        if self._threads == 1:
            return [without_waits_ms(usage) for _, usage, _ in self._runs]
        return [
            usage.wall_ms - min(usage.wall_ms, usage.waited_ms or 0.0) for _, usage, _ in self._runs
        ]

    @property
    def interval_ms(self) -> tuple[float, float] | None:
        """The 95% interval of the median, of the turns' medians if there are enough turns.

        The runs of a turn resemble each other, so they are not as good as independent.
        """
        _, runs = self.counted
        by_turn = list(_by_turn(runs).values())
        return median_interval(by_turn) or median_interval([ms for _, ms in runs])

    @property
    def is_narrow(self) -> bool:
        """Whether enough is known about the median, and undisturbed."""
        basis, runs = self.counted
        interval = self.interval_ms
        if basis == "all runs" or interval is None:
            return False
        allowed_ms = max(NARROW_MS, NARROW * median(ms for _, ms in runs))
        return interval[1] - interval[0] <= 2 * allowed_ms

    def _busy_level(self) -> float:
        """How many cores an undisturbed run keeps busy, as far as these runs tell."""
        if self._threads == 1 or len(self._runs) < 2:
            return 1.0
        return quantiles((_busy_cores(usage) for _, usage, _ in self._runs), n=4)[-1]

    def latency(self, reference: "Timings | None" = None) -> Latency:
        """What the runs say, with the speedup over `reference` if there is one."""
        basis, runs = self.counted
        times_ms = [ms for _, ms in runs]
        middle = median(times_ms)
        low, high = _quartiles(times_ms)
        interval = self.interval_ms
        if interval and basis == "processor time":
            interval = (interval[0] / COLD_CACHES, interval[1])
        return Latency(
            median_ms=round(middle, 3),
            low_ms=round(low, 3),
            high_ms=round(high, 3),
            runs=len(self),
            quiet_runs=len(self.quiet),
            basis=basis,
            median_low_ms=round(min(interval[0], middle), 3) if interval else None,
            median_high_ms=round(max(interval[1], middle), 3) if interval else None,
            speedup=paired_speedup(reference, self) if reference else None,
        )


def race(
    programs: Mapping[str, Program],
    batch: Arrays,
    reference: str | None = None,
    *,
    threads: int | None = None,
    clock: Clock | None = None,
) -> dict[str, Latency]:
    """The latency in ms of every program on one batch.

    The `reference` runs in every turn, and the speedup of the others is over it. `threads` is how
    many each program uses, if that is known.
    """
    with ExitStack() as stack:
        clock = clock or stack.enter_context(PauseClock())
        timings = {name: Timings(threads) for name in programs}
        long = {name for name, program in programs.items() if _warm_up(program, batch)}
        running = list(programs)
        start = time.perf_counter()
        stop = float("inf")
        for turn in count():
            if turn == TURNS_FOR_ALL:
                running = _contenders(timings, reference)
            if turn == TURNS:
                took = time.perf_counter() - start
                stop = start + took + min(MORE_AT_MOST * took, MORE_AT_MOST_SECONDS)
            if turn >= TURNS:
                wanting = {name for name in running if not timings[name].is_narrow}
                if not wanting or time.perf_counter() >= stop:
                    break
                running = [name for name in running if name in wanting or name == reference]
            if (
                threads != 1
                and turn >= GIVE_UP_TURNS
                and _is_hopeless(timings, running, turn, start)
            ):
                break
            # Backwards every other turn, so that a drift favours none.
            for name in running if turn % 2 == 0 else reversed(running):
                _take_turn(turn, programs[name], batch, timings[name], clock, name in long)
    over = timings[reference] if reference else None
    return {
        name: timing.latency(None if name == reference else over)
        for name, timing in timings.items()
    }


def _warm_up(program: Program, batch: Arrays) -> bool:
    """Runs a program a few times. Returns whether it takes so long that few runs will do."""
    fastest_ms = float("inf")
    for _ in range(WARM_UPS):
        start = time.perf_counter()
        program.run(batch)
        fastest_ms = min(fastest_ms, 1000 * (time.perf_counter() - start))
    return fastest_ms * TURNS * RUNS_A_TURN > ENOUGH_MS


def _take_turn(
    turn: int, program: Program, batch: Arrays, timings: Timings, clock: Clock, is_long: bool
) -> None:
    time.sleep(_SETTLE_SECONDS)
    if is_long:
        runs = LONG_RUNS_FIRST if turn < TURNS_FOR_ALL else 1
    else:
        runs = RUNS_A_TURN
        program.run(batch)  # brings its weights back into the caches
    clock.begin_turn()
    clock.steal_share()
    usages = [clock.time(lambda: program.run(batch)) for _ in range(runs)]
    steal_share = clock.steal_share()
    for usage in usages:
        timings.add(turn, usage, steal_share)


def _is_hopeless(
    timings: Mapping[str, Timings], running: list[str], turns: int, start: float
) -> bool:
    """Whether a program will not have enough quiet runs, twice the usual turns included."""
    if time.perf_counter() - start < GIVE_UP_SECONDS:
        return False
    return any(len(timings[name].quiet) * 2 * TURNS < FEWEST * turns for name in running)


def _contenders(timings: Mapping[str, Timings], reference: str | None) -> list[str]:
    """Those that may still be the fastest, by what their runs take at least; and the reference."""
    best_ms = min(median(ms for _, ms in timing.counted[1]) for timing in timings.values())
    return [
        name
        for name, timing in timings.items()
        if name == reference or _quartiles(timing.at_least_ms)[0] <= best_ms * CLOSE
    ]


def paired_speedup(reference: Timings, timings: Timings) -> Speedup:
    """How many times as fast as the reference, by the turns in which runs of both count."""
    slow_basis, slow = reference.counted
    fast_basis, fast = timings.counted
    slow_ms, fast_ms = _by_turn(slow), _by_turn(fast)
    ratios = [slow_ms[turn] / fast_ms[turn] for turn in slow_ms if turn in fast_ms]
    if not ratios:  # the quiet turns of one were not those of the other
        ratios = [median(slow_ms.values()) / median(fast_ms.values())]
    value, interval = median(ratios), median_interval(ratios)
    if interval is None:
        interval = _quotient(reference.interval_ms, timings.interval_ms)
    bases: tuple[Basis, ...] = ("all runs", "processor time", "quiet runs")
    basis = min(slow_basis, fast_basis, key=bases.index)
    if interval and basis == "processor time":
        interval = (interval[0] / COLD_CACHES, interval[1] * COLD_CACHES)
    return Speedup(
        value=round(value, 3),
        low=round(min(interval[0], value), 3) if interval else None,
        high=round(max(interval[1], value), 3) if interval else None,
        turns=len(ratios),
        basis=basis,
    )


def _quotient(
    slow_ms: tuple[float, float] | None, fast_ms: tuple[float, float] | None
) -> tuple[float, float] | None:
    if slow_ms is None or fast_ms is None:
        return None
    return slow_ms[0] / fast_ms[1], slow_ms[1] / fast_ms[0]


def without_waits_ms(usage: Usage) -> float:
    """The run's processor time, and what it slept; where waits are not known, processor time."""
    if usage.waited_ms is None:
        return usage.processor_ms
    slept_ms = usage.wall_ms - usage.waited_ms - usage.processor_ms
    return min(usage.wall_ms, usage.processor_ms + max(0.0, slept_ms))


def _is_quiet(usage: Usage, busy_level: float) -> bool:
    if usage.paused_ms is not None:
        return usage.paused_ms <= DISTURBED_SHARE * usage.wall_ms
    missing_ms = usage.wall_ms - usage.processor_ms / busy_level if busy_level else 0.0
    return missing_ms <= DISTURBED_SHARE_COARSE * usage.wall_ms + WAKE_UP_MS


def _busy_cores(usage: Usage) -> float:
    return usage.processor_ms / usage.wall_ms if usage.wall_ms else 0.0


def _by_turn(runs: list[tuple[int, float]]) -> dict[int, float]:
    """The median of each turn."""
    by_turn: dict[int, list[float]] = {}
    for turn, ms in runs:
        by_turn.setdefault(turn, []).append(ms)
    return {turn: median(times_ms) for turn, times_ms in by_turn.items()}


def _quartiles(times_ms: list[float]) -> tuple[float, float]:
    low, _, high = quantiles(times_ms, n=4, method="inclusive")
    return low, high


def best_batch_size(latency_ms: Mapping[int, float], gain: float = 0.05) -> int:
    """The smallest batch size whose rate of rows is within `gain` of the best rate.

    `latency_ms` is by batch size. Larger batches would make requests wait longer for no gain.
    """
    rate = {size: size / milliseconds for size, milliseconds in latency_ms.items()}
    best = max(rate.values())
    return min(size for size in rate if rate[size] >= best * (1 - gain))
