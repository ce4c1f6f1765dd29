"""A value by size: points in order, the marked one with a ring."""

import xml.etree.ElementTree as ET

from shipway.report.charts import SizePoint, by_size


def drawn(points: list[SizePoint]) -> str:
    return by_size(
        points,
        name="s",
        width=504,
        height=280,
        title="t",
        description="d",
        x_title="rows",
        y_title="ms",
    )


def test_only_the_marked_point_has_a_ring():
    points = [
        SizePoint(size=str(size), value=size, text=f"{size} ms", marked=size == 4)
        for size in (1, 2, 4, 8)
    ]
    drawing = drawn(points)
    ET.fromstring(drawing)
    assert drawing.count('class="ring"') == 1
    assert "<title>4 ms</title><circle" in drawing


def test_a_whisker_that_leaves_the_plot_ends_in_an_arrow():
    within = SizePoint(size="1", value=5, text="5", low=4.9, high=5.2)
    beyond = SizePoint(size="2", value=5, text="5", low=4.9, high=500)
    assert "l4-5l4 5" not in drawn([within])
    assert "l4-5l4 5" in drawn([within, beyond])
