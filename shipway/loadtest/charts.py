"""The load report's own charts; their parts are shipway.report.svg's."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import log10

from shipway.report.svg import (
    Box,
    Kind,
    escaped,
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

PERCENTILES = (0, 50, 90, 99, 99.9, 99.99, 99.999)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A line through points; `style` is a class of the stylesheet."""

    label: str
    points: Sequence[tuple[float, float]]
    style: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A load in the plane of throughput and latency."""

    label: str
    """Empty for one that needs none."""
    rate: float
    p50_ms: float
    p99_ms: float
    kind: Kind
    joined: bool
    """Whether it is on the line of open loops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """One load's seconds."""

    label: str
    p50_ms: Sequence[float | None]
    p99_ms: Sequence[float | None]
    errors: Sequence[int]


def by_percentile(
    curves: Sequence[Curve], *, name: str, width: int, height: int, title: str, description: str
) -> str:
    """Latency by percentile; one more nine is the same distance everywhere."""
    plot = Box(58, 30, width - 14, height - 56)
    y, y_ticks = log_axis([ms for each in curves for _, ms in each.points], plot.bottom, plot.top)
    end = max(2.0, *(_nines(percentile) for each in curves for percentile, _ in each.points))

    def x(percentile: float) -> float:
        return plot.left + (plot.right - plot.left) * _nines(percentile) / end

    parts = _frame(plot, y, y_ticks, "ms", "percentile of requests")
    for tick in PERCENTILES:
        if _nines(tick) <= end:
            parts.append(line(x(tick), plot.top, x(tick), plot.bottom, "grid"))
            anchor = "end" if x(tick) > plot.right - 20 else "middle"
            parts.append(words_at(f"{tick:g}", x(tick), plot.bottom + 19, class_=f"tick {anchor}"))
    lines = [[(x(percentile), y(ms)) for percentile, ms in each.points] for each in curves]
    for each, places in zip(curves, lines, strict=True):
        parts.append(_path(places, f"curve {each.style}", each.label))
    ends = [(*places[-1], each.label) for each, places in zip(curves, lines, strict=True)]
    parts += _labels(ends, [each.style for each in curves], plot, lines)
    return picture(name, width, height, title, description, parts)


def over_time(
    stretches: Sequence[Stretch],
    *,
    name: str,
    width: int,
    height: int,
    title: str,
    description: str,
) -> str:
    """p50 and p99 of every second, load after load; a cross below is a second with errors."""
    plot = Box(58, 42, width - 14, height - 56)
    known = [ms for each in stretches for ms in (*each.p50_ms, *each.p99_ms) if ms is not None]
    y, y_ticks = log_axis(known, plot.bottom - 12, plot.top)
    total = sum(len(each.p50_ms) for each in stretches)
    step = (plot.right - plot.left) / total
    parts = _frame(plot, y, y_ticks, "ms", "seconds, warm-ups left out")
    for tick in linear_axis(total)[1]:
        if tick <= total:
            at = plot.left + tick * step
            anchor = "end" if at > plot.right - 10 else "middle"
            parts.append(words_at(f"{tick:g}", at, plot.bottom + 19, class_=f"tick {anchor}"))
    start = 0
    for each in stretches:
        left, right = plot.left + start * step, plot.left + (start + len(each.p50_ms)) * step
        if start:
            parts.append(line(left, plot.top - 18, left, plot.bottom, "parting"))
        parts.append(words_at(each.label, (left + right) / 2, plot.top - 8, class_="tick middle"))
        for values, style, what in ((each.p99_ms, "p99", "p99"), (each.p50_ms, "p50", "p50")):
            for run in _runs(values):
                places = [(left + (at + 0.5) * step, y(ms)) for at, ms in run]
                parts.append(_path(places, f"curve {style}", f"{each.label}: {what}"))
        for at, errors in enumerate(each.errors):
            if errors:
                words = f"{each.label}, second {at + 1}: {errors} errors"
                parts.append(mark("refused", left + (at + 0.5) * step, plot.bottom - 6, words))
        start += len(each.p50_ms)
    return picture(name, width, height, title, description, parts)


def throughput(
    spots: Sequence[Spot],
    *,
    name: str,
    width: int,
    height: int,
    title: str,
    description: str,
    earlier: Sequence[Sequence[Spot]] = (),
) -> str:
    """Latency against answers a second; open loops are joined, in the order of their rates."""
    plot = Box(58, 30, width - 14, height - 56)
    everything = [*spots, *(spot for each in earlier for spot in each)]
    y, y_ticks = log_axis(
        [ms for each in everything for ms in (each.p50_ms, each.p99_ms)], plot.bottom, plot.top
    )
    most, x_ticks = linear_axis(max(each.rate for each in everything) * 1.04)

    def x(rate: float) -> float:
        return plot.left + (plot.right - plot.left) * rate / most

    parts = _frame(plot, y, y_ticks, "ms", "answers a second")
    for tick in x_ticks:
        anchor = "end" if tick == most else "middle"
        parts.append(words_at(f"{tick:g}", x(tick), plot.bottom + 19, class_=f"tick {anchor}"))
    drawn: list[list[tuple[float, float]]] = []
    for group, style in (*((each, "earlier") for each in earlier), (spots, "")):
        joined = [each for each in group if each.joined]
        for of, what in (("p99_ms", "p99"), ("p50_ms", "p50")):
            places = [(x(each.rate), y(getattr(each, of))) for each in joined]
            if len(places) > 1:
                parts.append(_path(places, f"curve {style or what}", f"{what} of the open loop"))
            if not style:
                drawn.append(places)
    shown = [(x(each.rate), y(each.p99_ms), each) for each in everything]
    taken = [Box(at_x - 9, at_y - 9, at_x + 9, at_y + 9) for at_x, at_y, _ in shown]
    named = sorted(
        ((at_x, at_y, each) for at_x, at_y, each in shown if each.label),
        key=lambda one: one[2].kind != "chosen",
    )
    boxes = place_labels(
        [(at_x, at_y, each.label) for at_x, at_y, each in named],
        within=Box(plot.left + 2, plot.top - 10, plot.right, plot.bottom - 1),
        taken=taken,
        lines=_strokes(drawn),
        needed=1,
    )
    for (at_x, at_y, each), box in zip(named, boxes, strict=True):
        if box is None:
            continue
        if leader := leader_line(box, at_x, at_y):
            parts.append(line(*leader, "leader"))
        strong = "strong" if each.kind == "chosen" else each.kind
        parts.append(words_at(each.label, box.left + 2, box.bottom - 4, class_=f"label {strong}"))
    parts += [
        mark(each.kind, at_x, at_y, f"{each.rate:.4g} a second, p99 {each.p99_ms:.4g} ms")
        for at_x, at_y, each in reversed(shown)
    ]
    return picture(name, width, height, title, description, parts)


def _nines(percentile: float) -> float:
    """log10 of 1/(1−p): 90 is 1, 99 is 2, 99.9 is 3."""
    return -log10(1 - percentile / 100)


def _frame(
    plot: Box, y: Callable[[float], float], y_ticks: Sequence[float], y_title: str, x_title: str
) -> list[str]:
    parts = [words_at(y_title, 4, 14, class_="axis-title")]
    for tick in y_ticks:
        parts.append(line(plot.left, y(tick), plot.right, y(tick), "grid"))
        parts.append(words_at(f"{tick:g}", plot.left - 8, y(tick) + 4.5, class_="tick end"))
    parts.append(line(plot.left, plot.bottom, plot.right, plot.bottom, "axis"))
    parts.append(words_at(x_title, plot.right, plot.bottom + 42, class_="axis-title end"))
    return parts


def _path(places: Sequence[tuple[float, float]], class_: str, label: str) -> str:
    d = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    return tag("path", tag("title", escaped(label)), d=d, class_=class_)


def _labels(
    ends: Sequence[tuple[float, float, str]],
    styles: Sequence[str],
    plot: Box,
    lines: Sequence[Sequence[tuple[float, float]]],
) -> list[str]:
    """Each line's name, near its end and clear of the others."""
    boxes = place_labels(
        ends,
        within=Box(plot.left + 2, plot.top - 10, plot.right, plot.bottom - 1),
        lines=_strokes(lines),
        needed=len(ends),
    )
    parts = []
    for (at_x, at_y, words), style, box in zip(ends, styles, boxes, strict=True):
        assert box  # all are needed
        if leader := leader_line(box, at_x, at_y):
            parts.append(line(*leader, "leader"))
        parts.append(words_at(words, box.left + 2, box.bottom - 4, class_=f"label {style}"))
    return parts


def _strokes(
    lines: Sequence[Sequence[tuple[float, float]]],
) -> list[tuple[float, float, float, float]]:
    return [(*one, *other) for places in lines for one, other in pairwise(places)]


def _runs(values: Sequence[float | None]) -> Iterator[list[tuple[int, float]]]:
    """Neighbouring values that are there, with their places."""
    for there, group in groupby(enumerate(values), key=lambda each: each[1] is not None):
        if there:
            yield [(at, value) for at, value in group if value is not None]
