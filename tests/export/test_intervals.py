"""The interval of a median holds whatever the distribution."""

import numpy as np
import pytest

from shipway.export.intervals import CONFIDENCE, FEWEST, median_interval


@pytest.mark.parametrize(
    # Hahn and Meeker, "Statistical Intervals", table A.15b for 0.5 and 95%, gives these ranks.
    ("count", "ranks"),
    [(6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (12, (3, 10)), (20, (6, 15)), (32, (10, 23))],
)
def test_the_interval_lies_between_the_order_statistics_of_the_tables(count, ranks):
    values = list(range(count, 0, -1))
    assert median_interval(values) == ranks


def test_too_few_values_have_no_interval():
    assert median_interval([1.0] * (FEWEST - 1)) is None
    assert median_interval([]) is None
    assert median_interval([1.0] * FEWEST) == (1.0, 1.0)


def test_it_holds_the_median_of_a_skewed_distribution_as_often_as_it_says():
    draws = np.random.default_rng(0).lognormal(0.0, 1.5, (2000, 13))
    held = [low <= 1.0 <= high for low, high in map(median_interval, draws.tolist())]
    assert np.mean(held) >= CONFIDENCE - 0.01
