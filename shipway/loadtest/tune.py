"""Search for the settings that carry the most requests a second within a latency target.

A trial serves one setting by itself: it starts the workers, puts load on them and ends them. Its
result is the highest rate of Poisson arrivals at which 99% of requests keep the target.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
DELAYS_MS = (0, 1, 2, 5, 10, 20)
FEW_ROWS = 4
BETTER = 1.03
"""How many times the rate a setting must carry to be preferred. Two measurements of one setting
differ by more than a percent or two."""
PRECISION = 1.05
"""The search ends when the lowest rate that failed is at most this many times the highest kept."""
BRACKET = 1.4
LOWEST_RATE = 1.0
SHARE_OF_SPACE = 10
FEWEST_TRIALS, MOST_TRIALS = 5, 20


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """Settings of a registration, and the threads of each worker."""

    workers: int
    threads: int
    batch_size: int
    delay_ms: int

    def __str__(self) -> str:
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{workers} × {threads}, batches of {self.batch_size}, {self.delay_ms} ms delay"


@dataclass(frozen=True, slots=True)
class MeasuredRate:
    """What was measured at one rate."""

    rate: float
    """Arrivals a second."""
    p99_ms: float
    """Infinite if nothing was answered."""
    kept: bool
    """Whether the target was kept and every request answered."""
    because: str = ""
    """Why it was not kept."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The measurements of one setting."""

    setting: Setting
    best: MeasuredRate | None
    """The highest rate that kept the target; None if no rate that was tried did."""
    loads: tuple[MeasuredRate, ...]
    """All rates that were tried, in order."""

    @property
    def rate(self) -> float:
        """The best rate; 0 if there is none."""
        return self.best.rate if self.best else 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """A trial, and its meaning for the search."""

    trial: Trial
    because: str
    """Why this setting was tried, and how it compares."""
    is_best: bool
    """Whether it is the best so far."""


Measure = Callable[[float], MeasuredRate]
"""Measures the setting that is served at a rate, in requests a second."""
Serve = Callable[[Setting], Measure]
"""Serves a setting, instead of the last one."""


def space(cores: int, most_rows: int, slo_ms: float) -> list[Setting]:
    """Every reasonable setting for this many cores: no delay of a third of the target or more."""
    layouts = [
        (workers, threads)
        for workers in range(1, cores + 1)
        for threads in range(1, cores + 1)
        if workers * threads <= cores and (workers == 1 or cores % workers == 0)
    ]
    sizes = sorted({*(each for each in BATCH_SIZES if each < most_rows), min(most_rows, 128)})
    delays = [each for each in DELAYS_MS if each < slo_ms / 3]
    return [
        Setting(workers, threads, size, delay)
        for workers, threads in layouts
        for size in sizes
        for delay in (delays if size > 1 else [0])
    ]


def budget(settings: Sequence[Setting]) -> int:
    """How many trials a search may take: a tenth of the settings, within limits."""
    return min(MOST_TRIALS, max(FEWEST_TRIALS, len(settings) // SHARE_OF_SPACE))


def highest_rate(measure: Measure, setting: Setting, start: float, floor: float = 0.0) -> Trial:
    """The highest rate that keeps the target, searched in growing steps and then by halving.

    With a `floor`, a setting that misses the target at that rate is given up after one load, since
    it would not be preferred.
    """
    loads: list[MeasuredRate] = []

    def at(rate: float) -> MeasuredRate:
        loads.append(measure(rate))
        return loads[-1]

    best, failed = None, math.inf
    rate = max(start, floor, LOWEST_RATE)
    if floor:
        first = at(floor)
        if not first.kept:
            return Trial(setting, None, tuple(loads))
        best, rate = first, floor * BRACKET
    while failed / (best.rate if best else LOWEST_RATE) > PRECISION:
        found = at(rate)
        if found.kept:
            best = found
        else:
            failed = rate
            if best is None and rate <= LOWEST_RATE:
                break
        if math.isinf(failed):
            rate *= BRACKET
        elif best is None:
            rate = max(LOWEST_RATE, rate / BRACKET**2)
        else:
            rate = math.sqrt(best.rate * failed)
    return Trial(setting, best, tuple(loads))


def search(
    settings: Sequence[Setting], start: Setting, serve: Serve, guess: float, trials: int
) -> Iterator[Step]:
    """Tries settings one after the other against the best so far, until `trials` are made or no
    neighbour is better. `guess` is the rate to start from."""
    left = trials
    best = highest_rate(serve(start), start, guess)
    yield Step(best, "settings of the archive (start of the search)", True)
    left -= 1
    tried = {start}
    improving = True
    while improving and left:
        improving = False
        # The moves that matter most come first. Each kind leaves trials for the kinds after it.
        for kept_back, (along, moves) in zip((3, 2, 1, 0), MOVES, strict=True):
            candidates = moves(best.setting, settings)
            while candidates and left > kept_back:
                setting = candidates.pop(0)
                if setting in tried:
                    continue
                tried.add(setting)
                left -= 1
                floor = best.rate * BETTER
                trial = highest_rate(serve(setting), setting, guess, floor)
                yield Step(trial, f"{along}: {_outcome(trial, best, floor)}", bool(trial.best))
                if trial.best:
                    best, improving = trial, True
                    candidates = moves(best.setting, settings)


def proven(measure: Measure, trial: Trial) -> MeasuredRate:
    """A rate that keeps the target when measured again: the trial's best, or a little less."""
    rate = trial.rate
    while not (found := measure(rate)).kept and rate > LOWEST_RATE:
        rate = max(LOWEST_RATE, rate / PRECISION)
    return found


def exhaust(settings: Sequence[Setting], serve: Serve, guess: float) -> Iterator[Step]:
    """Tries every setting against the best so far."""
    best: Trial | None = None
    for setting in settings:
        floor = best.rate * BETTER if best else 0.0
        trial = highest_rate(serve(setting), setting, guess, floor)
        better = trial.best is not None
        yield Step(trial, _outcome(trial, best, floor) if best else "the first", better)
        if better:
            best = trial


def in_turns(serve: Serve, settings: Sequence[Setting], start: float, turns: int) -> list[float]:
    """The highest rate of each setting: the median over several turns, A B A B."""
    rates = [
        [highest_rate(serve(setting), setting, start).rate for setting in settings]
        for _ in range(turns)
    ]
    return [median(of_one) for of_one in zip(*rates, strict=True)]


def _outcome(trial: Trial, best: Trial, floor: float) -> str:
    if trial.best:
        return (
            f"{trial.rate / best.rate - 1:+.0%} compared with the best so far"
            if best.rate
            else "first setting that meets the target"
        )
    last = trial.loads[-1]
    return f"not better: {last.because} at {last.rate:.0f} requests/s"


def _layouts(now: Setting, settings: Sequence[Setting], *, full: bool) -> list[Setting]:
    """Other divisions of the cores among workers and threads: all cores, or fewer if not `full`.

    Each with the same batches and without any, because batches that suit few workers with many
    threads say little about many workers with few.
    """
    cores = max(each.workers * each.threads for each in settings)
    found = sorted({(each.workers, each.threads) for each in settings})
    return [
        replace(batching, workers=workers, threads=threads)
        for workers, threads in sorted(found, key=lambda each: -each[0] * each[1])
        if (workers * threads == cores) == full
        for batching in dict.fromkeys((now, replace(now, batch_size=1, delay_ms=0)))
    ]


def _sizes(now: Setting, settings: Sequence[Setting]) -> list[Setting]:
    """Other batch sizes, small ones first: they bring most of the gain of batching."""
    sizes = {each.batch_size for each in settings} - {now.batch_size}
    return [
        replace(now, batch_size=size, delay_ms=now.delay_ms if size > 1 else 0)
        for size in sorted(sizes, key=lambda each: abs(math.log2(each / FEW_ROWS)))
    ]


def _delays(now: Setting, settings: Sequence[Setting]) -> list[Setting]:
    """The next longer delay, then the next shorter one."""
    if now.batch_size == 1:
        return []
    delays = sorted({each.delay_ms for each in settings})
    longer = [each for each in delays if each > now.delay_ms][:1]
    shorter = [each for each in delays if each < now.delay_ms][-1:]
    return [replace(now, delay_ms=delay) for delay in longer + shorter]


Moves = Callable[[Setting, Sequence[Setting]], list[Setting]]
MOVES: tuple[tuple[str, Moves], ...] = (
    ("other numbers of workers and threads", partial(_layouts, full=True)),
    ("other batch size", _sizes),
    ("other batch delay", _delays),
    ("one core unused", partial(_layouts, full=False)),
)
