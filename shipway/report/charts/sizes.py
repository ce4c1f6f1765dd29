"""A value by size, such as the latency by batch size."""

from collections.abc import Sequence
from dataclasses import dataclass

from shipway.report.charts.axes import frame, linear_axis
from shipway.report.charts.svg import Box, line, mark, picture, polyline, tag, words_at


@dataclass(frozen=True, slots=True, kw_only=True)
class SizePoint:
    """A value at one size. Sizes are in order, at equal distances."""

    size: str
    value: float
    text: str
    """The value as it is written beside the point."""
    marked: bool = False
    """Whether the point has a ring."""
    low: float | None = None
    high: float | None = None
    """Ends of the whisker, None for none."""


def by_size(
    points: Sequence[SizePoint],
    *,
    name: str,
    width: int,
    height: int,
    title: str,
    description: str,
    x_title: str,
    y_title: str,
) -> str:
    """A line over sizes such as 1, 2, 4 and 8, with the value written at every point."""
    plot = Box(52, 34, width - 14, height - 52)
    tallest = max(point.value for point in points)
    highest = max(point.value if point.high is None else point.high for point in points)
    end, ticks = linear_axis(max(tallest * 1.12, min(highest, tallest * 1.4)), 4)

    def y(value: float) -> float:
        return plot.bottom - (plot.bottom - plot.top) * min(value, end) / end

    gap = (plot.right - plot.left) / len(points)
    at = [plot.left + gap * (index + 0.5) for index in range(len(points))]
    parts = frame(plot, y, ticks, y_title, x_title, x_title_below=40)
    line_points = [(x, y(point.value)) for x, point in zip(at, points, strict=True)]
    parts.append(polyline(line_points, "curve"))
    for x, point in zip(at, points, strict=True):
        if point.low is not None and point.high is not None:
            parts.append(line(x, y(point.low), x, y(point.high), "whisker"))
            parts.append(line(x - 4, y(point.low), x + 4, y(point.low), "whisker"))
            if point.high <= end:
                parts.append(line(x - 4, y(point.high), x + 4, y(point.high), "whisker"))
            else:
                arrow = f"M{x - 4:.1f} {plot.top + 5:.1f}l4-5l4 5"
                parts.append(tag("path", d=arrow, class_="whisker"))
        parts.append(mark("chosen" if point.marked else "front", x, y(point.value), point.text))
        strong = " strong" if point.marked else ""
        above = y(point.value) - (14 if point.marked else 10)
        # Beside a tall whisker, on the side that a rising curve leaves free
        tall = point.high is not None and y(point.value) - y(point.high) > 8
        aside = "end" if tall else "middle"
        parts.append(
            words_at(point.text, x - 7 if tall else x, above, class_=f"value {aside}{strong}")
        )
        parts.append(words_at(point.size, x, plot.bottom + 18, class_=f"tick middle{strong}"))
    return picture(name, width, height, title, description, parts)
