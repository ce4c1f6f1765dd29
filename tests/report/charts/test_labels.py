"""Labels are placed where they cover nothing, and are left out only where there is no place."""

import random
from itertools import combinations

import pytest

from shipway.report.charts.labels import label_at, leader_line, place_labels, strokes_of
from shipway.report.charts.svg import Box


@pytest.mark.parametrize("seed", range(5))
def test_labels_lie_clear_of_each_other_and_of_the_marks(seed):
    rng = random.Random(seed)
    field = Box(0, 0, 900, 400)
    points = [
        (rng.uniform(20, 880), rng.choice([390, rng.uniform(10, 390)]), "x" * rng.randint(5, 22))
        for _ in range(14)
    ]
    marks = [Box(x - 8, y - 8, x + 8, y + 8) for x, y, _ in points]
    found = place_labels(points, within=field, taken=marks)
    placed = [each for each in found if each is not None]
    assert len(placed) >= 13
    assert all(a.overlap(b) == 0 for a, b in combinations(placed, 2))
    assert all(label.overlap(mark) == 0 for label in placed for mark in marks)
    assert all(each.outside(field) < 1e-6 for each in placed)


def test_ten_faithful_candidates_in_a_row_all_get_their_names():
    points = [(60.0 + 45 * index, 390.0, "openvino_fp32") for index in range(10)]
    marks = [Box(x - 8, y - 8, x + 8, y + 8) for x, y, _ in points]
    assert all(place_labels(points, within=Box(0, 0, 900, 400), taken=marks))


def test_a_label_that_is_needed_is_placed_however_crowded_it_is():
    points = [(50.0, 50.0, "a long name indeed")] * 6
    found = place_labels(points, within=Box(0, 0, 150, 100), needed=4)
    assert all(found[:4])


def test_a_label_far_from_its_point_gets_a_leader_line_and_a_close_one_does_not():
    assert leader_line(Box(10, 0, 60, 17), 5, 8) is None
    assert leader_line(Box(100, 0, 160, 17), 5, 8) == (5, 8, 100, 8)
    assert len(label_at("far", Box(100, 0, 160, 17), 5, 8, "front")) == 2
    (close,) = label_at("close", Box(10, 0, 60, 17), 5, 8, "front")
    assert 'class="label front"' in close


def test_a_label_avoids_the_lines_of_the_chart():
    across = [(0.0, 88.0, 400.0, 88.0)]
    (box,) = place_labels([(200, 100, "name")], within=Box(0, 0, 400, 200), lines=across)
    assert box is not None and box.overlap(Box(0, 87.5, 400, 88.5)) == 0


def test_lines_through_points_are_cut_into_straight_pieces():
    assert strokes_of([[(0, 0), (1, 1), (2, 0)], [(5, 5)]]) == [(0, 0, 1, 1), (1, 1, 2, 0)]
