"""The export report's own charts; their parts are shipway.report.svg's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from shipway.report.svg import (
    LETTER,
    Box,
    Kind,
    leader_line,
    line,
    linear_axis,
    log_axis,
    mark,
    picture,
    place_labels,
    tag,
    words_at,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    label: str
    latency_ms: float
    points_lost: float
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A place on an axis of sizes that has no distances, only an order."""

    name: str
    value: float
    text: str
    marked: bool = False
    low: float | None = None
    high: float | None = None


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
    """Points lost against latency: best at the bottom left, the front as steps."""
    plot = Box(54, 30, width - 14, height - 56)
    x, x_ticks = log_axis([each.latency_ms for each in dots], plot.left + 16, plot.right - 16)
    most = max(each.points_lost for each in dots)
    shown_budget = budget if budget is not None and budget <= max(2.5 * most, 1.0) else None
    top, y_ticks = linear_axis(max(most, shown_budget or 0.0, 0.5) * 1.08)
    floor_y = plot.bottom - 14  # so that marks at nothing lost do not sit on the axis

    def y(points: float) -> float:
        return floor_y - (floor_y - plot.top) * points / top

    parts = [words_at(y_title, 4, 14, class_="axis-title")]
    for tick in y_ticks:
        parts.append(line(plot.left, y(tick), plot.right, y(tick), "grid"))
        parts.append(words_at(f"{tick:g}", plot.left - 8, y(tick) + 4.5, class_="tick end"))
    for tick in x_ticks:
        parts.append(line(x(tick), plot.bottom, x(tick), plot.bottom + 5, "axis"))
        parts.append(words_at(f"{tick:g}", x(tick), plot.bottom + 19, class_="tick middle"))
    parts.append(line(plot.left, plot.bottom, plot.right, plot.bottom, "axis"))
    parts.append(words_at(x_title, plot.right, plot.bottom + 42, class_="axis-title end"))
    parts.append(words_at("↙ better", plot.left + 4, plot.bottom + 42, class_="tick"))
    taken: list[Box] = []
    if shown_budget is not None:
        words = f"budget: {shown_budget:g} points"
        right = plot.right - 2
        parts.append(line(plot.left, y(shown_budget), plot.right, y(shown_budget), "budget"))
        parts.append(words_at(words, right, y(shown_budget) - 5, class_="tick end"))
        taken.append(
            Box(right - LETTER * len(words), y(shown_budget) - 18, right, y(shown_budget) + 2)
        )
    placed = [(x(each.latency_ms), y(each.points_lost), each) for each in dots]
    front = sorted((at_x, at_y) for at_x, at_y, each in placed if each.kind in ("chosen", "front"))
    lines = list(_stairs(front, plot))
    parts += [line(*ends, "front-line") for ends in lines]
    order: dict[Kind, int] = {"chosen": 0, "front": 1, "reference": 2, "refused": 3, "beaten": 4}
    placed.sort(key=lambda each: (order[each[2].kind], each[0]))
    taken += [Box(at_x - 9, at_y - 9, at_x + 9, at_y + 9) for at_x, at_y, _ in placed]
    labels = place_labels(
        [(at_x, at_y, each.label) for at_x, at_y, each in placed],
        within=Box(plot.left + 2, plot.top - 10, plot.right, plot.bottom - 1),
        taken=taken,
        lines=lines,
        needed=sum(each.kind in ("chosen", "front") for *_, each in placed),
    )
    for (at_x, at_y, dot), box in zip(placed, labels, strict=True):
        if box is None:
            continue
        if leader := leader_line(box, at_x, at_y):
            parts.append(line(*leader, "leader"))
        words_class = "label strong" if dot.kind == "chosen" else f"label {dot.kind}"
        parts.append(words_at(dot.label, box.left + 2, box.bottom - 4, class_=words_class))
    parts += [
        mark(dot.kind, at_x, at_y, f"{dot.label}: {dot.latency_ms:.3g} ms, {dot.points_lost:.3g}")
        for at_x, at_y, dot in reversed(placed)
    ]
    return picture(name, width, height, title, description, parts)


def _stairs(
    front: Sequence[tuple[float, float]], plot: Box
) -> Iterator[tuple[float, float, float, float]]:
    """Along the front's edge: whatever lies above or to the right of it is beaten."""
    if not front:
        return
    yield front[0][0], plot.top, *front[0]
    for (x1, y1), (x2, y2) in pairwise(front):
        yield x1, y1, x2, y1
        yield x2, y1, x2, y2
    yield *front[-1], plot.right, front[-1][1]


def steps(
    places: Sequence[Step],
    *,
    name: str,
    width: int,
    height: int,
    title: str,
    description: str,
    x_title: str,
    y_title: str,
) -> str:
    """A line over sizes such as 1, 2, 4, 8, with the value written at every point."""
    plot = Box(52, 34, width - 14, height - 52)
    tallest = max(each.value for each in places)
    highest = max(each.value if each.high is None else each.high for each in places)
    end, ticks = linear_axis(max(tallest * 1.12, min(highest, tallest * 1.4)), 4)

    def y(value: float) -> float:
        return plot.bottom - (plot.bottom - plot.top) * min(value, end) / end

    gap = (plot.right - plot.left) / len(places)
    at = [plot.left + gap * (index + 0.5) for index in range(len(places))]
    parts = [words_at(y_title, 4, 14, class_="axis-title")]
    for tick in ticks:
        parts.append(line(plot.left, y(tick), plot.right, y(tick), "grid"))
        parts.append(words_at(f"{tick:g}", plot.left - 8, y(tick) + 4.5, class_="tick end"))
    parts.append(line(plot.left, plot.bottom, plot.right, plot.bottom, "axis"))
    parts.append(words_at(x_title, plot.right, plot.bottom + 40, class_="axis-title end"))
    path = "M" + "L".join(
        f"{x:.1f} {y(each.value):.1f}" for x, each in zip(at, places, strict=True)
    )
    parts.append(tag("path", d=path, class_="curve"))
    for x, each in zip(at, places, strict=True):
        if each.low is not None and each.high is not None:
            parts.append(line(x, y(each.low), x, y(each.high), "whisker"))
            parts.append(line(x - 4, y(each.low), x + 4, y(each.low), "whisker"))
            if each.high <= end:
                parts.append(line(x - 4, y(each.high), x + 4, y(each.high), "whisker"))
            else:
                arrow = f"M{x - 4:.1f} {plot.top + 5:.1f}l4-5l4 5"
                parts.append(tag("path", d=arrow, class_="whisker"))
        parts.append(mark("chosen" if each.marked else "front", x, y(each.value), each.text))
        strong = " strong" if each.marked else ""
        above = y(each.value) - (14 if each.marked else 10)
        # Beside a tall whisker, on the side that a rising curve leaves free.
        tall = each.high is not None and y(each.value) - y(each.high) > 8
        aside = "end" if tall else "middle"
        parts.append(
            words_at(each.text, x - 7 if tall else x, above, class_=f"value {aside}{strong}")
        )
        parts.append(words_at(each.name, x, plot.bottom + 18, class_=f"tick middle{strong}"))
    return picture(name, width, height, title, description, parts)
