"""Which rows run together: checked against every other way to cut them."""

import tracemalloc
from functools import cache
from itertools import pairwise
from time import process_time

import numpy as np
import pytest

from shipway.runtime.planning import Costs, _cut, padded_length, plan

GRIDS: dict[str, dict[tuple[int, int], float]] = {
    "in proportion": {(rows, 0): float(rows) for rows in (1, 4, 8)},
    "cheaper together": {(1, 0): 3.0, (4, 0): 5.0, (8, 0): 7.0},
    "dearer together": {(1, 0): 1.0, (4, 0): 9.0, (8, 0): 40.0},
    "a fast eight": {(1, 0): 2.0, (2, 0): 4.0, (4, 0): 8.0, (8, 0): 3.0},
    "a slow eight": {(1, 0): 2.0, (2, 0): 2.5, (4, 0): 3.0, (8, 0): 30.0},
    "texts": {(r, t): (1 + r) * (5 + t) for r in (1, 4, 8) for t in (16, 64, 256)},
    "texts with a jump": {(r, t): 3 + r * t**1.5 for r in (1, 2, 8) for t in (8, 32, 128)},
    "nothing measured": {},
}
SIZES = (1, 2, 3, 4, 6, 8)


@pytest.fixture(params=GRIDS)
def costs(request) -> Costs:
    return Costs(GRIDS[request.param], sizes=SIZES)


def total_ms(runs, costs: Costs) -> float:
    return sum(costs.milliseconds(each.size, each.length) for each in runs)


def least_ms(lengths, costs: Costs) -> float:
    """Over every way to cut the sorted rows, and every size that each part may have."""
    ordered = sorted(map(padded_length, lengths))

    @cache
    def least(first: int) -> float:
        if first == len(ordered):
            return 0.0
        return min(
            costs.milliseconds(size, ordered[last - 1]) + least(last)
            for last in range(first + 1, min(len(ordered), first + costs.most_rows) + 1)
            for size in costs.sizes
            if size >= last - first
        )

    return least(0)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 65, 200])
@pytest.mark.parametrize("longest", [0, 1, 300])
def test_every_row_is_in_exactly_one_run_that_has_room_for_it(costs, count, longest):
    lengths = np.random.default_rng(count).integers(0, longest + 1, count).tolist()
    runs = plan(lengths, costs)
    assert sorted(row for each in runs for row in each.rows) == list(range(count))
    for each in runs:
        assert each.size in SIZES
        assert 1 <= len(each.rows) <= each.size
        assert each.length >= max(lengths[row] for row in each.rows)


@pytest.mark.parametrize("seed", range(12))
def test_no_other_cut_is_cheaper(costs, seed):
    random = np.random.default_rng(seed)
    lengths = random.integers(1, random.choice([3, 40, 300]) + 1, random.integers(1, 13)).tolist()
    if seed % 3 == 0:
        lengths = [0] * len(lengths)
    assert total_ms(plan(lengths, costs), costs) == pytest.approx(least_ms(lengths, costs))


def test_no_split_of_the_rows_in_two_sets_is_cheaper_either():
    """Not only cuts of the sorted rows: any rows may be set apart."""
    costs = Costs(GRIDS["texts"], sizes=SIZES)
    lengths = [9, 200, 12, 150, 30, 64]
    found = total_ms(plan(lengths, costs), costs)
    for chosen in range(1 << len(lengths)):
        one = [each for place, each in enumerate(lengths) if chosen >> place & 1]
        two = [each for place, each in enumerate(lengths) if not chosen >> place & 1]
        apart = total_ms(plan(one, costs), costs) + total_ms(plan(two, costs), costs)
        assert found <= apart + 1e-9


def test_a_short_text_does_not_ride_with_a_long_one_where_that_costs():
    costs = Costs({(r, t): float(r * t) for r in (1, 8) for t in (8, 256)}, sizes=SIZES)
    runs = plan([256, 8, 8, 256, 8], costs)
    assert sorted(each.rows for each in runs if each.length == 256) in ([(0,), (3,)], [(0, 3)])
    assert all(each.length == 8 for each in runs if not {0, 3} & set(each.rows))


def test_all_ride_together_where_starting_a_run_is_what_costs():
    costs = Costs({(r, t): 100.0 + r * t / 1000 for r in (1, 8) for t in (8, 256)}, sizes=SIZES)
    (run,) = plan([256, 8, 8, 256, 8], costs)
    assert (run.size, run.length) == (6, 256)


def test_a_larger_size_that_was_measured_faster_is_padded_to():
    costs = Costs(GRIDS["a fast eight"], sizes=SIZES)
    (run,) = plan([0] * 5, costs)
    assert (len(run.rows), run.size) == (5, 8)


def test_rows_are_split_where_a_larger_size_is_slower():
    costs = Costs(GRIDS["a slow eight"], sizes=SIZES)
    assert sorted(each.size for each in plan([0] * 8, costs)) == [4, 4]


def test_a_bound_below_everything_that_was_measured_is_no_obstacle():
    costs = Costs({(8, 0): 3.0, (16, 0): 5.0}, sizes=(1, 2))
    assert [len(each.rows) for each in plan([0] * 4, costs)] == [2, 2]


def test_a_bound_between_two_measured_sizes_is_interpolated():
    costs = Costs({(1, 0): 1.0, (4, 0): 4.0, (8, 0): 5.0}, sizes=(1, 2, 3, 4, 5, 6))
    assert costs.milliseconds(6, 0) == pytest.approx(4.5)


def test_texts_of_which_nothing_was_measured_are_planned_too():
    runs = plan([5, 500, 0, 7], Costs({}, sizes=(1, 2)))
    assert sorted(row for each in runs for row in each.rows) == [0, 1, 2, 3]


def test_padded_lengths_ascend_are_few_and_waste_little():
    lengths = [padded_length(each) for each in range(1, 2000)]
    assert all(a <= b for a, b in pairwise(lengths))
    assert all(each <= padded < each + 128 for each, padded in enumerate(lengths, 1))
    assert len({each for each in lengths if each <= 512}) <= 20
    assert [padded_length(each) for each in (0, 1, 8, 9, 64, 65)] == [0, 8, 8, 16, 64, 80]


def test_a_thousand_long_texts_are_planned_in_little_time():
    costs = Costs(GRIDS["texts"], sizes=(1, 2, 4, 8, 16, 32))
    lengths = np.random.default_rng(0).integers(1, 512, 1024).tolist()
    start = process_time()
    plan(lengths, costs)
    assert process_time() - start < 0.5


def test_different_numbers_of_many_rows_take_little_time_and_leave_no_memory(costs):
    plan([0] * 16_000, costs)
    tracemalloc.start()
    for count in range(15_000, 15_008):
        plan([0] * count, costs)
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert left < 1_000_000
    start = process_time()
    plan([0] * 16_000, costs)
    assert process_time() - start < 0.5


def test_of_many_rows_the_runs_take_hardly_longer_than_the_best(costs):
    for count in (100, 1_001):
        cuts = _cut([0] * count, costs)
        best = sum(costs.best(last - first, length)[0] for first, last, _, length in cuts)
        assert total_ms(plan([0] * count, costs), costs) <= 1.01 * best
