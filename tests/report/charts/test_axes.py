"""Axes: scales that cover the values, ticks at round numbers."""

import pytest

from shipway.report.charts.axes import frame, linear_axis, log_axis
from shipway.report.charts.svg import Box


@pytest.mark.parametrize(
    ("most", "end", "ticks"),
    [
        (10, 10, [0, 2, 4, 6, 8, 10]),
        (0.5, 0.5, [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        (11, 12.5, [0, 2.5, 5, 7.5, 10, 12.5]),
    ],
)
def test_a_linear_axis_ends_at_a_round_number_that_is_large_enough(most, end, ticks):
    assert linear_axis(most) == (end, ticks)


def test_on_a_log_axis_twice_as_much_is_the_same_distance_everywhere():
    x, ticks = log_axis([1.0, 100.0], 0.0, 200.0)
    assert x(4.0) - x(2.0) == pytest.approx(x(80.0) - x(40.0))
    assert ticks == [1, 2, 5, 10, 20, 50, 100]
    assert 0 < x(1.0) < x(100.0) < 200


def test_a_log_axis_of_one_value_has_a_length_and_a_tick():
    x, ticks = log_axis([3.0], 0.0, 100.0)
    assert 40 < x(3.0) < 60
    assert ticks == [3]


def test_a_frame_has_a_line_and_a_number_for_each_tick_and_both_titles():
    parts = frame(Box(0, 0, 100, 50), lambda value: 50 - value, [0, 25], "ms", "rows")
    assert sum("grid" in part for part in parts) == 2
    assert [part for part in parts if ">25<" in part] and [part for part in parts if ">ms<" in part]
