"""The search for settings, on servers that are simulated: request by request, batch by batch."""

import heapq
import math
import random

import pytest

from shipway.loadtest.tune import (
    BETTER,
    PRECISION,
    MeasuredRate,
    Setting,
    budget,
    exhaust,
    highest_rate,
    search,
    space,
)

SLO_MS = 60.0
REQUESTS = 3000


class Machine:
    """Cores that share `work_ms` of each row and `fixed_ms` of each batch among a run's threads."""

    def __init__(self, cores: int, fixed_ms: float, work_ms: float, alone: float) -> None:
        """`alone` is the part of a run that no second thread makes shorter."""
        self.cores, self.fixed_ms, self.work_ms, self.alone = cores, fixed_ms, work_ms, alone
        self.served: list[Setting] = []

    def serve(self, setting: Setting):
        self.served.append(setting)
        return lambda rate: self._load(setting, rate)

    def _load(self, setting: Setting, rate: float) -> MeasuredRate:
        shorter = self.alone + (1 - self.alone) / setting.threads
        chance = random.Random(hash((setting, round(rate, 3))))
        now, arrivals = 0.0, []
        for _ in range(REQUESTS):
            now += chance.expovariate(rate / 1000)
            arrivals.append(now)
        free = [0.0] * setting.workers
        latencies, first = [], 0
        while first < REQUESTS:
            start = max(heapq.heappop(free), arrivals[first])
            # TorchServe's delay begins when a free worker has taken the first request.
            full = first + setting.batch_size - 1
            last_call = start + setting.delay_ms
            if full < REQUESTS:
                last_call = min(last_call, max(start, arrivals[full]))
            batch = [
                each for each in arrivals[first : first + setting.batch_size] if each <= last_call
            ]
            took = self.fixed_ms + self.work_ms * len(batch) * shorter * chance.uniform(0.97, 1.03)
            latencies += [last_call + took - each for each in batch]
            heapq.heappush(free, last_call + took)
            first += len(batch)
        p99_ms = sorted(latencies)[math.ceil(0.99 * REQUESTS) - 1]
        kept = p99_ms <= SLO_MS
        return MeasuredRate(rate, p99_ms, kept, "" if kept else f"p99 was {p99_ms:.0f} ms")


MACHINES = {
    "threads that help little": lambda: Machine(2, fixed_ms=1, work_ms=4, alone=0.5),
    "threads that help fully": lambda: Machine(2, fixed_ms=1, work_ms=4, alone=0.0),
    "batches that save much": lambda: Machine(2, fixed_ms=12, work_ms=0.6, alone=0.3),
    "eight cores": lambda: Machine(8, fixed_ms=3, work_ms=6, alone=0.2),
}


@pytest.mark.parametrize("name", MACHINES)
def test_a_tenth_of_the_trials_comes_within_five_percent_of_all(name):
    found, best = {}, {}
    settings = space(MACHINES[name]().cores, 32, SLO_MS)
    start = max(each for each in settings if each.workers == 1 and each.delay_ms == 0)
    for how in (search, exhaust):
        machine = MACHINES[name]()
        arguments = (settings, start, machine.serve, 50.0, budget(settings))
        steps = list(search(*arguments) if how is search else exhaust(settings, machine.serve, 50))
        best[how] = [each.trial for each in steps if each.is_best][-1]
        found[how] = len(machine.served)
    assert found[exhaust] == len(settings) >= 50
    assert found[search] <= budget(settings) <= len(settings) // 10
    # Both find a rate to within PRECISION, so the settings are compared at one and the same.
    again = MACHINES[name]()
    reached = {
        how: highest_rate(again.serve(trial.setting), trial.setting, trial.rate).rate
        for how, trial in best.items()
    }
    assert reached[search] >= reached[exhaust] / 1.05 / PRECISION


def at_most(limit: float):
    """A setting that keeps the target up to this rate."""
    tried = []

    def load(rate: float) -> MeasuredRate:
        tried.append(rate)
        return MeasuredRate(rate, 10.0, rate <= limit, "" if rate <= limit else "p99 was 99 ms")

    return load, tried


ANY = Setting(1, 1, 1, 0)


@pytest.mark.parametrize("start", [1.0, 50.0, 200.0, 3000.0])
@pytest.mark.parametrize("limit", [1.5, 37.0, 200.0, 1234.0])
def test_the_highest_rate_is_found_from_wherever_the_search_begins(limit, start):
    load, tried = at_most(limit)
    trial = highest_rate(load, ANY, start)
    assert limit / PRECISION <= trial.rate <= limit
    assert [each.rate for each in trial.loads] == tried
    assert len(tried) <= 30


def test_nothing_is_found_where_not_even_the_lowest_rate_keeps_the_target():
    load, tried = at_most(0.5)
    assert highest_rate(load, ANY, 100.0).best is None
    assert min(tried) == 1.0


def test_a_setting_that_is_no_better_costs_one_load():
    load, tried = at_most(100.0)
    assert highest_rate(load, ANY, 50.0, floor=100.0 * BETTER).best is None
    assert len(tried) == 1


def test_settings_that_nobody_would_want_are_not_in_the_space():
    settings = space(2, 32, 8.0)
    assert {(each.workers, each.threads) for each in settings} == {(1, 1), (1, 2), (2, 1)}
    assert {each.batch_size for each in settings} == {1, 2, 4, 8, 16, 32}
    assert {each.delay_ms for each in settings if each.batch_size > 1} == {0, 1, 2}
    assert {each.delay_ms for each in settings if each.batch_size == 1} == {0}
    assert len(set(settings)) == len(settings)
    assert space(1, 1, 50.0) == [Setting(1, 1, 1, 0)]
    assert max(each.batch_size for each in space(1, 12, 50.0)) == 12


def test_every_step_says_why():
    machine = MACHINES["threads that help little"]()
    settings = space(2, 32, SLO_MS)
    for step in search(settings, settings[0], machine.serve, 50.0, 7):
        assert len(step.because) > 20
        assert step.is_best == (step.trial.best is not None)
