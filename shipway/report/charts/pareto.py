"""Candidates in the plane of latency and points lost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from shipway.report.charts.axes import frame, linear_axis, log_axis
from shipway.report.charts.labels import Stroke, label_at, place_labels
from shipway.report.charts.svg import LETTER, Box, Kind, line, mark, picture, words_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A candidate in the plane."""

    label: str
    latency_ms: float
    points_lost: float
    kind: Kind


def pareto(
    dots: Sequence[Dot],
    *,
    name: str,
    width: int,
    height: int,
    title: str,
    description: str,
    x_title: str,
    y_title: str,
    budget: float | None = None,
) -> str:
    """Points lost against latency, with the Pareto front as a staircase; bottom left is best."""
    plot = Box(54, 30, width - 14, height - 56)
    x, x_ticks = log_axis([dot.latency_ms for dot in dots], plot.left + 16, plot.right - 16)
    most = max(dot.points_lost for dot in dots)
    shown_budget = budget if budget is not None and budget <= max(2.5 * most, 1.0) else None
    top, y_ticks = linear_axis(max(most, shown_budget or 0.0, 0.5) * 1.08)
    floor_y = plot.bottom - 14  # keeps marks with nothing lost off the axis

    def y(points: float) -> float:
        return floor_y - (floor_y - plot.top) * points / top

    parts = frame(plot, y, y_ticks, y_title, x_title)
    for tick in x_ticks:
        parts.append(line(x(tick), plot.bottom, x(tick), plot.bottom + 5, "axis"))
        parts.append(words_at(f"{tick:g}", x(tick), plot.bottom + 19, class_="tick middle"))
    parts.append(words_at("↙ better", plot.left + 4, plot.bottom + 42, class_="tick"))
    taken: list[Box] = []
    if shown_budget is not None:
        words = f"budget: {shown_budget:g} point{'' if shown_budget == 1 else 's'}"
        right = plot.right - 2
        parts.append(line(plot.left, y(shown_budget), plot.right, y(shown_budget), "budget"))
        parts.append(words_at(words, right, y(shown_budget) - 5, class_="tick end"))
        taken.append(
            Box(right - LETTER * len(words), y(shown_budget) - 18, right, y(shown_budget) + 2)
        )
    placed = [(x(dot.latency_ms), y(dot.points_lost), dot) for dot in dots]
    front = sorted((at_x, at_y) for at_x, at_y, dot in placed if dot.kind in ("chosen", "front"))
    stairs = list(_stairs(front, plot))
    parts += [line(*stroke, "front-line") for stroke in stairs]
    order: dict[Kind, int] = {"chosen": 0, "front": 1, "reference": 2, "refused": 3, "beaten": 4}
    placed.sort(key=lambda item: (order[item[2].kind], item[0]))
    taken += [Box(at_x - 9, at_y - 9, at_x + 9, at_y + 9) for at_x, at_y, _ in placed]
    labels = place_labels(
        [(at_x, at_y, dot.label) for at_x, at_y, dot in placed],
        within=Box(plot.left + 2, plot.top - 10, plot.right, plot.bottom - 1),
        taken=taken,
        lines=stairs,
        needed=sum(dot.kind in ("chosen", "front") for *_, dot in placed),
    )
    for (at_x, at_y, dot), box in zip(placed, labels, strict=True):
        if box is not None:
            style = "strong" if dot.kind == "chosen" else dot.kind
            parts += label_at(dot.label, box, at_x, at_y, style)
    parts += [
        mark(dot.kind, at_x, at_y, f"{dot.label}: {dot.latency_ms:.3g} ms, {dot.points_lost:.3g}")
        for at_x, at_y, dot in reversed(placed)
    ]
    return picture(name, width, height, title, description, parts)


def _stairs(front: Sequence[tuple[float, float]], plot: Box) -> Iterator[Stroke]:
    """The edge of the front: everything above or to the right of it is beaten."""
    if not front:
        return
    yield front[0][0], plot.top, *front[0]
    for (x1, y1), (x2, y2) in pairwise(front):
        yield x1, y1, x2, y1
        yield x2, y1, x2, y2
    yield *front[-1], plot.right, front[-1][1]
