"""Bars as long as their numbers, labels that fit."""

import re

from shipway.report.charts import Bar, bars
from shipway.report.charts.svg import Kind

VALUES = (("a", 2), ("b", 4))


def drawn(rows: list[Bar], width: int = 600) -> str:
    return bars(rows, name="b", width=width, title="t", description="d", x_title="ms")


def widths(drawing: str) -> list[float]:
    return [float(width) for width in re.findall(r'<rect [^>]*?width="([0-9.]+)"', drawing)]


def test_a_bar_twice_as_long_is_twice_the_number():
    rows = [
        Bar(label=name, value=value, text=name, kind="front")
        for name, value in (("a", 2), ("b", 4))
    ]
    short, long = widths(drawn(rows))
    assert abs(long / short - 2) < 0.01


def test_a_whisker_far_beyond_the_bars_ends_in_an_arrow():
    inside = Bar(label="a", value=2, text="2", kind="front", low=1.9, high=2.1)
    outside = Bar(label="b", value=2, text="2", kind="front", low=1.9, high=50)
    assert "l5 4l-5 4" not in drawn([inside])
    assert "l5 4l-5 4" in drawn([outside])


def test_a_long_label_keeps_both_of_its_ends():
    label = "encoder.layers.0." + "x" * 200 + ".output.dense"
    drawing = drawn([Bar(label=label, value=1, text="1", kind="front")], width=350)
    shortened = re.search(r"<text [^>]*>([^<]*…[^<]*)</text>", drawing)[1]
    assert shortened.startswith("encoder.") and shortened.endswith("dense")


def test_a_bold_label_gets_the_space_of_bold_letters():
    def start_of_bars(kind: Kind) -> float:
        drawing = drawn([Bar(label="m" * 20, value=1, text="1", kind=kind, note="2 threads")])
        [start] = re.findall(r"<rect [^>]*?x=\"([0-9.]+)\"", drawing)
        return float(start)

    # Measured with DejaVu Sans Bold at 13 pixels: 8.1 a letter in the names of techniques.
    assert start_of_bars("chosen") >= 8.1 * 20
    assert start_of_bars("chosen") > start_of_bars("front")
