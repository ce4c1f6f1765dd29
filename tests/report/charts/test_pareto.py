"""The Pareto plot: marks at their places, whatever the numbers are."""

import re
import xml.etree.ElementTree as ET

from shipway.report import charts

MARK = r'cx="([0-9.]+)" cy="([0-9.]+)" r="5.5" class="mark (\w+)"'


def test_an_axis_of_equal_latencies_still_has_a_length():
    dots = [
        charts.Dot(label=name, latency_ms=3.0, points_lost=0.0, kind="front") for name in ("a", "b")
    ]
    drawing = drawn(dots)
    assert "nan" not in drawing and "inf" not in drawing
    ET.fromstring(drawing)


def drawn(dots: list[charts.Dot], budget: float | None = None) -> str:
    return charts.pareto(
        dots,
        name="it",
        width=350,
        height=300,
        title="t",
        description="d",
        x_title="ms",
        y_title="points",
        budget=budget,
    )


def test_faster_is_further_left_and_less_lost_is_lower():
    dots = [
        charts.Dot(label="fast", latency_ms=2.0, points_lost=4.0, kind="chosen"),
        charts.Dot(label="slow", latency_ms=9.0, points_lost=1.0, kind="front"),
    ]
    places = {
        kind: (float(x), float(y))
        for x, y, kind in re.findall(
            r'cx="([0-9.]+)" cy="([0-9.]+)" r="5.5" class="mark (\w+)"', drawn(dots)
        )
    }
    assert places["chosen"][0] < places["front"][0]
    assert places["chosen"][1] < places["front"][1]  # y grows downward


def test_the_budget_is_drawn_where_it_is_near_the_candidates():
    dots = [charts.Dot(label="a", latency_ms=2.0, points_lost=4.0, kind="chosen")]
    assert "budget: 5 points" in drawn(dots, budget=5.0)
    assert "budget: 1 point<" in drawn(dots, budget=1.0)
    assert "budget" not in drawn(dots, budget=90.0)
