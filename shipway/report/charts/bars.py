"""Horizontal bars with whiskers."""

from collections.abc import Sequence
from dataclasses import dataclass

from shipway.report.charts.axes import linear_axis
from shipway.report.charts.svg import (
    BOLD_LETTER,
    LETTER,
    Kind,
    escaped,
    line,
    picture,
    tag,
    words_at,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar."""

    label: str
    value: float
    text: str
    """The value as it is written beside the bar."""
    kind: Kind
    low: float | None = None
    high: float | None = None
    """Ends of the whisker, None for none."""
    note: str = ""
    """Small print after the label."""


def bars(
    rows: Sequence[Bar],
    *,
    name: str,
    width: int,
    title: str,
    description: str,
    x_title: str,
) -> str:
    """Horizontal bars from 0. In a narrow drawing the labels are above the bars."""
    narrow = width < 440
    names = max(_letter(each) * len(each.label) + _note_width(each) for each in rows)
    values = LETTER * max(len(each.text) for each in rows) + 18
    left = 4.0 if narrow else min(names, width * 0.5) + 8
    right = width - (8.0 if narrow else values)
    pitch = 40 if narrow else 26
    thick = 12 if narrow else 14
    top = 6
    bottom = top + pitch * len(rows) + 4
    # A whisker far beyond the others is cut off, or all bars would be tiny.
    medians = max(each.value for each in rows)
    end, ticks = linear_axis(max(medians * 1.02, min(_highest(rows), medians * 1.25)), 4)

    def x(value: float) -> float:
        return left + (right - left) * min(value, end) / end

    parts = []
    for tick in ticks:
        anchor = "start" if narrow and not tick else "end" if narrow and tick == end else "middle"
        if tick:
            parts.append(line(x(tick), top, x(tick), bottom, "grid"))
        parts.append(words_at(f"{tick:g}", x(tick), bottom + 16, class_=f"tick {anchor}"))
    parts.append(words_at(x_title, right, bottom + 36, class_="axis-title end"))
    for index, row in enumerate(rows):
        y = top + pitch * index + (pitch - thick if narrow else (pitch - thick) / 2)
        label_y = y - 6 if narrow else y + thick - 2.5
        strong = "label strong" if row.kind == "chosen" else f"label {row.kind}"
        note = tag("tspan", escaped(f" {row.note}"), class_="note") if row.note else ""
        available = width - values - left if narrow else left - 8
        fits = int((available - _note_width(row)) / _letter(row))
        label = escaped(_cut(row.label, fits)) + note
        label_x = left if narrow else left - 8
        parts.append(
            tag("text", label, x=label_x, y=label_y, class_=strong + ("" if narrow else " end"))
        )
        value_class = "value strong end" if row.kind == "chosen" else "value end"
        parts.append(words_at(row.text, width - 4.0, label_y, class_=value_class))
        filled = max(x(row.value) - left, 1.0)
        inside = tag("title", escaped(f"{row.label}: {row.text}"))
        parts.append(
            tag(
                "rect",
                inside,
                x=left,
                y=float(y),
                width=filled,
                height=thick,
                rx=2,
                class_=f"bar {row.kind}",
            )
        )
        if row.low is not None and row.high is not None:
            middle = y + thick / 2
            parts.append(line(x(row.low), middle, x(row.high), middle, "whisker"))
            parts.append(line(x(row.low), middle - 4, x(row.low), middle + 4, "whisker"))
            if row.high <= end:
                parts.append(line(x(row.high), middle - 4, x(row.high), middle + 4, "whisker"))
            else:
                arrow = f"M{right - 5:.1f} {middle - 4:.1f}l5 4l-5 4"
                parts.append(tag("path", d=arrow, class_="whisker"))
    if not narrow:  # in a narrow drawing it would cross the labels
        parts.append(line(left, top, left, bottom, "axis"))
    return picture(name, width, bottom + 44, title, description, parts)


def _letter(row: Bar) -> float:
    """The width of a letter of its label."""
    return BOLD_LETTER if row.kind == "chosen" else LETTER


def _note_width(row: Bar) -> float:
    return LETTER * (len(row.note) + 1) if row.note else 0.0


def _highest(rows: Sequence[Bar]) -> float:
    return max(each.value if each.high is None else each.high for each in rows)


def _cut(words: str, most: int) -> str:
    """Shortens a text in the middle: the names of layers differ at their ends."""
    if len(words) <= most or most < 8:
        return words
    half = (most - 1) // 2
    return f"{words[:half]}…{words[-half:]}"
