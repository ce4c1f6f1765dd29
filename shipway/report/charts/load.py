"""Charts of a load test: latency by percentile, over time, and against throughput."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import log10

from shipway.report.charts.axes import frame, linear_axis, log_axis
from shipway.report.charts.labels import label_at, place_labels, strokes_of
from shipway.report.charts.svg import Box, Kind, line, mark, picture, polyline, words_at

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
    """Empty for a load without a label."""
    rate: float
    p50_ms: float
    p99_ms: float
    kind: Kind
    joined: bool
    """Whether the line of open loops goes through it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """The seconds of one load, in order."""

    label: str
    p50_ms: Sequence[float | None]
    """None for a second without answers."""
    p99_ms: Sequence[float | None]
    errors: Sequence[int]
    """The number of errors in each second."""


def by_percentile(
    curves: Sequence[Curve], *, name: str, width: int, height: int, title: str, description: str
) -> str:
    """Latency by percentile. Each further nine (90, 99, 99.9) has the same distance."""
    plot = Box(58, 30, width - 14, height - 56)
    y, y_ticks = log_axis([ms for each in curves for _, ms in each.points], plot.bottom, plot.top)
    end = max(2.0, *(_nines(percentile) for each in curves for percentile, _ in each.points))

    def x(percentile: float) -> float:
        return plot.left + (plot.right - plot.left) * _nines(percentile) / end

    parts = frame(plot, y, y_ticks, "ms", "percentile of requests")
    for tick in PERCENTILES:
        if _nines(tick) <= end:
            parts.append(line(x(tick), plot.top, x(tick), plot.bottom, "grid"))
            anchor = "end" if x(tick) > plot.right - 20 else "middle"
            parts.append(words_at(f"{tick:g}", x(tick), plot.bottom + 19, class_=f"tick {anchor}"))
    lines = [[(x(percentile), y(ms)) for percentile, ms in each.points] for each in curves]
    for each, places in zip(curves, lines, strict=True):
        parts.append(polyline(places, f"curve {each.style}", each.label))
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
    """p50 and p99 of every second, load after load. A cross below marks a second with errors."""
    plot = Box(58, 42, width - 14, height - 56)
    known = [ms for each in stretches for ms in (*each.p50_ms, *each.p99_ms) if ms is not None]
    y, y_ticks = log_axis(known, plot.bottom - 12, plot.top)
    total = sum(len(each.p50_ms) for each in stretches)
    step = (plot.right - plot.left) / total
    parts = frame(plot, y, y_ticks, "ms", "seconds, warm-ups left out")
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
        for values, what in ((each.p99_ms, "p99"), (each.p50_ms, "p50")):
            for run in _runs(values):
                places = [(left + (at + 0.5) * step, y(ms)) for at, ms in run]
                parts.append(polyline(places, f"curve {what}", f"{each.label}: {what}"))
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
    """Latency against answers per second. A line joins the open loops, by rate."""
    plot = Box(58, 30, width - 14, height - 56)
    everything = [*spots, *(spot for each in earlier for spot in each)]
    y, y_ticks = log_axis(
        [ms for each in everything for ms in (each.p50_ms, each.p99_ms)], plot.bottom, plot.top
    )
    most, x_ticks = linear_axis(max(each.rate for each in everything) * 1.04)

    def x(rate: float) -> float:
        return plot.left + (plot.right - plot.left) * rate / most

    parts = frame(plot, y, y_ticks, "ms", "requests/s")
    for tick in x_ticks:
        anchor = "end" if tick == most else "middle"
        parts.append(words_at(f"{tick:g}", x(tick), plot.bottom + 19, class_=f"tick {anchor}"))
    drawn: list[list[tuple[float, float]]] = []
    for group, style in (*((each, "earlier") for each in earlier), (spots, "")):
        joined = [each for each in group if each.joined]
        for what in ("p99", "p50"):
            places = [(x(each.rate), y(getattr(each, f"{what}_ms"))) for each in joined]
            if len(places) > 1:
                parts.append(polyline(places, f"curve {style or what}", f"{what} of the open loop"))
            if not style:
                drawn.append(places)
    shown = [(x(each.rate), y(each.p99_ms), each) for each in everything]
    taken = [Box(at_x - 9, at_y - 9, at_x + 9, at_y + 9) for at_x, at_y, _ in shown]
    named = sorted(
        ((at_x, at_y, each) for at_x, at_y, each in shown if each.label),
        key=lambda item: item[2].kind != "chosen",
    )
    boxes = place_labels(
        [(at_x, at_y, each.label) for at_x, at_y, each in named],
        within=Box(plot.left + 2, plot.top - 10, plot.right, plot.bottom - 1),
        taken=taken,
        lines=strokes_of(drawn),
        needed=1,
    )
    for (at_x, at_y, each), box in zip(named, boxes, strict=True):
        if box is not None:
            style = "strong" if each.kind == "chosen" else each.kind
            parts += label_at(each.label, box, at_x, at_y, style)
    parts += [
        mark(each.kind, at_x, at_y, f"{each.rate:.4g} requests/s, p99 {each.p99_ms:.4g} ms")
        for at_x, at_y, each in reversed(shown)
    ]
    return picture(name, width, height, title, description, parts)


def _nines(percentile: float) -> float:
    """log10 of 1/(1−p): 1 for 90, 2 for 99, 3 for 99.9."""
    return -log10(1 - percentile / 100)


def _labels(
    ends: Sequence[tuple[float, float, str]],
    styles: Sequence[str],
    plot: Box,
    lines: Sequence[Sequence[tuple[float, float]]],
) -> list[str]:
    """The name of each line, near its end and clear of the others."""
    boxes = place_labels(
        ends,
        within=Box(plot.left + 2, plot.top - 10, plot.right, plot.bottom - 1),
        lines=strokes_of(lines),
        needed=len(ends),
    )
    parts = []
    for (at_x, at_y, words), style, box in zip(ends, styles, boxes, strict=True):
        assert box  # all are needed
        parts += label_at(words, box, at_x, at_y, style)
    return parts


def _runs(values: Sequence[float | None]) -> Iterator[list[tuple[int, float]]]:
    """Runs of consecutive values without None, each value with its index."""
    for present, group in groupby(enumerate(values), key=lambda item: item[1] is not None):
        if present:
            yield [(at, value) for at, value in group if value is not None]
