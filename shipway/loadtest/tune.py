"""Settings of a server that carry the most requests a second under a latency target.

A trial is one setting, served by itself: workers started, load put on them, workers ended. Its
result is the highest rate of Poisson arrivals at which 99% of requests stay below the target.
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
"""A setting must carry so much more to be preferred. Two measurements of one rate differ by more
than a percent or two."""
PRECISION = 1.05
"""The highest rate is found when the lowest one that failed is so close above it."""
BRACKET = 1.4
LOWEST_RATE = 1.0
SHARE_OF_SPACE = 10
FEWEST_TRIALS, MOST_TRIALS = 5, 20


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """What a registration can choose, and the threads of one run in each worker."""

    workers: int
    threads: int
    batch_size: int
    delay_ms: int

    def __str__(self) -> str:
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{workers} × {threads}, batches of {self.batch_size}, {self.delay_ms} ms delay"


@dataclass(frozen=True, slots=True)
class At:
    """One load: what happened at one rate."""

    rate: float
    """Arrivals a second."""
    p99_ms: float
    """Infinite where nothing was answered."""
    kept: bool
    """Whether the target was kept, and every request answered."""
    because: str = ""
    """What was not kept."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting, measured."""

    setting: Setting
    best: At | None
    """The highest rate that kept the target; None if none did that was tried."""
    loads: tuple[At, ...]
    """All that were tried, in order."""

    @property
    def rate(self) -> float:
        return self.best.rate if self.best else 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """A trial, and what it meant for the search."""

    trial: Trial
    because: str
    """Why this setting was tried, and what came of it."""
    is_best: bool
    """So far."""


Load = Callable[[float], At]
"""Puts so many requests a second on the setting that is served, for a while."""
Serve = Callable[[Setting], Load]
"""Serves a setting until the next one is to be served."""


def space(cores: int, most_rows: int, slo_ms: float) -> list[Setting]:
    """Every setting worth a thought on so many cores; a delay of a third of the target is not."""
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
    """How many trials the search may take: a tenth of the space, within limits."""
    return min(MOST_TRIALS, max(FEWEST_TRIALS, len(settings) // SHARE_OF_SPACE))


def highest_rate(load: Load, setting: Setting, start: float, floor: float = 0.0) -> Trial:
    """The highest rate that keeps the target, by doubling steps and then by halves.

    With a `floor`, a setting that does not keep the target there is given up after that one load:
    it would not be preferred anyway.
    """
    loads: list[At] = []

    def at(rate: float) -> At:
        loads.append(load(rate))
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
    """Tries settings one after the other, each beside the best so far, until so many trials are
    made or nothing near is better. `guess` is a rate to begin with."""
    left = trials
    best = highest_rate(serve(start), start, guess)
    yield Step(best, "where the search begins: the archive's own settings", True)
    left -= 1
    tried = {start}
    improving = True
    while improving and left:
        improving = False
        # What matters most comes first. Each kind of move leaves trials for those after it.
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


def proven(load: Load, trial: Trial) -> At:
    """A rate that keeps the target once more: the trial's best, or a little less."""
    rate = trial.rate
    while not (found := load(rate)).kept and rate > LOWEST_RATE:
        rate = max(LOWEST_RATE, rate / PRECISION)
    return found


def exhaust(settings: Sequence[Setting], serve: Serve, guess: float) -> Iterator[Step]:
    """Every setting, each beside the best so far."""
    best: Trial | None = None
    for setting in settings:
        floor = best.rate * BETTER if best else 0.0
        trial = highest_rate(serve(setting), setting, guess, floor)
        better = trial.best is not None
        yield Step(trial, _outcome(trial, best, floor) if best else "the first", better)
        if better:
            best = trial


def in_turns(serve: Serve, settings: Sequence[Setting], start: float, turns: int) -> list[float]:
    """The highest rate of each setting, the median of several turns: A B A B."""
    rates = [
        [highest_rate(serve(setting), setting, start).rate for setting in settings]
        for _ in range(turns)
    ]
    return [median(of_one) for of_one in zip(*rates, strict=True)]


def _outcome(trial: Trial, best: Trial, floor: float) -> str:
    if trial.best:
        return (
            f"{trial.rate / best.rate - 1:+.0%} on the best so far" if best.rate else "it keeps it"
        )
    last = trial.loads[-1]
    return f"no better, since {last.because} at {last.rate:.0f} a second"


def _layouts(now: Setting, settings: Sequence[Setting], *, full: bool) -> list[Setting]:
    """All cores shared otherwise among workers and threads, or layouts that leave some idle.

    Each with the same batches, and without any: what suits few workers with many threads hardly
    tells what suits many that compute each for itself.
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
    """Other batches, those of a few rows first: that saves most of what batches save."""
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
    ("other workers and threads, or single requests", partial(_layouts, full=True)),
    ("other batches", _sizes),
    ("another delay", _delays),
    ("a core left to others", partial(_layouts, full=False)),
)
