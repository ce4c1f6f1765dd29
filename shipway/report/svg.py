"""Parts of charts as SVG, drawn for one width each: text stays legible because nothing is scaled.

Colours are classes of the page's stylesheet, so that light, dark and paper need no other drawing;
nothing is told by colour alone. All text is escaped here. Coordinates are pixels.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, cos, floor, hypot, log10, pi, sin
from typing import Literal, NamedTuple

Kind = Literal["chosen", "front", "beaten", "refused", "reference"]
"""What a mark stands for: the one that matters most (a ring), those that count (filled), others
(hollow), what failed (a cross), what they are compared with (a diamond)."""

TEXT = 13
"""Height of the letters."""
LETTER = 7.4
"""Width of a letter, on the broad side: what is reserved is never too little."""


class Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        """The area that both cover."""
        if self.left >= other.right or other.left >= self.right:
            return 0.0
        if self.top >= other.bottom or other.top >= self.bottom:
            return 0.0
        width = min(self.right, other.right) - max(self.left, other.left)
        return width * (min(self.bottom, other.bottom) - max(self.top, other.top))

    def outside(self, other: "Box") -> float:
        """The area that sticks out of `other`."""
        return (self.right - self.left) * (self.bottom - self.top) - self.overlap(other)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    label: str
    value: float
    text: str
    """The value as it is written beside the bar."""
    kind: Kind
    low: float | None = None
    high: float | None = None
    """Ends of the whisker, None for none."""
    note: str = ""
    """Small print behind the label."""


def tag(name: str, content: str = "", **attributes: object) -> str:
    """One element; `class_` is class, an underscore in a name is a hyphen."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def escaped(value: str) -> str:
    # Most control characters may not be in XML at all, escaped or not.
    return escape(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", "?", value))


def _short(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def words_at(words: str, x: float, y: float, **attributes: object) -> str:
    return tag("text", escaped(words), x=float(x), y=float(y), **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def picture(
    name: str, width: int, height: float, title: str, description: str, parts: Sequence[str]
) -> str:
    """The whole drawing. `name` must be unique in its page."""
    head = tag("title", escaped(title), id=f"{name}-title") + tag(
        "desc", escaped(description), id=f"{name}-desc"
    )
    return tag(
        "svg",
        head + "".join(parts),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {ceil(height)}",
        width=width,
        height=ceil(height),
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )


def mark(kind: Kind, x: float, y: float, label: str) -> str:
    """A shape for each kind, to be told apart without colours."""
    inside = tag("title", escaped(label))
    match kind:
        case "chosen":
            ring = tag("circle", cx=x, cy=y, r=9.5, class_="ring")
            return tag("g", inside + ring + tag("circle", cx=x, cy=y, r=5.5, class_="mark chosen"))
        case "reference":
            d = f"M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7-7z"
        case "refused":
            d = f"M{x - 5:.1f} {y - 5:.1f}l10 10m0-10l-10 10"
        case _:
            return tag("circle", inside, cx=x, cy=y, r=5.5, class_=f"mark {kind}")
    return tag("path", inside, d=d, class_=f"mark {kind}")


def symbol(kind: Kind) -> str:
    """The mark alone, for a legend."""
    return tag(
        "svg",
        mark(kind, 11, 11, kind),
        viewBox="0 0 22 22",
        width=22,
        height=22,
        aria_hidden="true",
    )


def place_labels(
    wanted: Sequence[tuple[float, float, str]],
    *,
    within: Box,
    taken: Sequence[Box] = (),
    lines: Sequence[tuple[float, float, float, float]] = (),
    needed: int = 0,
) -> list[Box | None]:
    """A place for each label near its point, clear of the others; earlier ones choose first.

    None for a label that has no clear place, unless it is among the first `needed`: those take the
    place that covers least.
    """
    strokes = [
        Box(min(x1, x2) - 1, min(y1, y2) - 1, max(x1, x2) + 1, max(y1, y2) + 1)
        for x1, y1, x2, y2 in lines
    ]
    first, others = range(needed), sorted(range(needed, len(wanted)), key=lambda i: wanted[i][0])
    tried = (
        _place_in_order(wanted, [*first, *order], within, taken, strokes, needed)
        for order in ((others, others[::-1]) if len(others) > 1 else (others,))
    )
    return max(tried, key=lambda found: sum(each is not None for each in found))


def _place_in_order(
    wanted: Sequence[tuple[float, float, str]],
    order: Sequence[int],
    within: Box,
    taken: Sequence[Box],
    strokes: Sequence[Box],
    needed: int,
) -> list[Box | None]:
    taken = list(taken)
    leaders: list[tuple[float, float, float, float]] = []
    found: list[Box | None] = [None] * len(wanted)
    for turn, index in enumerate(order):
        x, y, words = wanted[index]
        # The air above points whose turn is still to come: their leaders may need it.
        air = [Box(wanted[i][0] - 4, wanted[i][1] - 60, *wanted[i][:2]) for i in order[turn + 1 :]]
        places = list(_places(x, y, LETTER * len(words) + 4, TEXT + 4.0))
        reach = Box(
            min(each.left for each in places),
            min(each.top for each in places),
            max(each.right for each in places),
            max(each.bottom for each in places),
        )
        near = [each for each in strokes if each.overlap(reach)]

        def unclear(box: Box, x: float = x, y: float = y) -> float:
            """How much of it, and of its leader, lies over something else."""
            crossed = sum(_crosses(each, box) for each in leaders)
            if leader := leader_line(box, x, y):
                # Not counting the marks beside its own, which it starts among.
                others = (each for each in taken if not _in(each, x, y))
                crossed += sum(_crosses(leader, each) for each in others)
            covered = sum(box.overlap(each) for each in taken)
            return box.outside(within) + covered + 100 * crossed

        def badness(
            box: Box, x: float = x, y: float = y, air: list[Box] = air, near: list[Box] = near
        ) -> float:
            struck = sum(box.overlap(each) for each in near)
            stifled = sum(box.overlap(each) > 0 for each in air)
            near_x, near_y = _nearest(box, x, y)
            distance = hypot(near_x - x, near_y - y)
            return 50 * unclear(box, x, y) + 4 * struck + 80 * stifled + distance

        best = min(places, key=badness)
        if index >= needed and unclear(best) > 0.01:  # what rounding alone may leave
            continue
        found[index] = best
        taken.append(best)
        if leader := leader_line(best, x, y):
            leaders.append(leader)
    return found


def leader_line(box: Box, x: float, y: float) -> tuple[float, float, float, float] | None:
    """The line from a point to its label, None where they are close."""
    near_x, near_y = _nearest(box, x, y)
    return (x, y, near_x, near_y) if hypot(near_x - x, near_y - y) > 16 else None


def _places(x: float, y: float, width: float, height: float) -> Iterator[Box]:
    """Around a point, near ones first."""
    for distance in (12, 20, 30, 42, 56, 72, 90, 110, 132, 156, 182):
        for turn in (0, 8, 4, 12, 2, 14, 6, 10, 1, 15, 3, 13, 5, 11, 7, 9):
            across, down = cos(turn * pi / 8), -sin(turn * pi / 8)
            left = x + distance * across - width * (1 - across) / 2
            top = y + distance * down - height * (1 - down) / 2
            yield Box(left, top, left + width, top + height)
        # Like flags on a pole, which stand close together at different heights.
        for left in (x - 4, x - width + 4):
            for top in (y - distance - height, y + distance):
                yield Box(left, top, left + width, top + height)


def _nearest(box: Box, x: float, y: float) -> tuple[float, float]:
    return min(max(x, box.left), box.right), min(max(y, box.top + 3), box.bottom - 3)


def _in(box: Box, x: float, y: float) -> bool:
    return box.left <= x <= box.right and box.top <= y <= box.bottom


def _crosses(line: tuple[float, float, float, float], box: Box) -> bool:
    x1, y1, x2, y2 = line
    return any(
        _in(box, x1 + (x2 - x1) * part / 12, y1 + (y2 - y1) * part / 12) for part in range(1, 12)
    )


def log_axis(
    values_ms: Sequence[float], left: float, right: float
) -> tuple[Callable[[float], float], list[float]]:
    """Logarithmic: twice as fast is the same distance everywhere."""
    low, high = min(values_ms) * 0.9, max(values_ms) * 1.1
    if high / low < 1.6:
        middle = (low * high) ** 0.5
        low, high = middle / 1.3, middle * 1.3
    decades = range(floor(log10(low)) - 1, ceil(log10(high)) + 1)

    def ticks(digits: Sequence[float]) -> list[float]:
        all_of_them = (digit * 10.0**decade for decade in decades for digit in digits)
        return [round(each, 6) for each in all_of_them if low <= each <= high]

    chosen = ticks((1, 2, 5))
    if len(chosen) < 3:
        chosen = ticks((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9))
    span = log10(high / low)
    return lambda value: left + (right - left) * log10(value / low) / span, chosen


def linear_axis(most: float, about: int = 5) -> tuple[float, list[float]]:
    """An axis from 0 to at least `most`, and its ticks at round numbers."""
    rough = most / about
    power = 10.0 ** floor(log10(rough))
    step = next(digit * power for digit in (1, 2, 2.5, 5, 10) if digit * power >= rough * 0.999)
    count = ceil(most / step - 1e-9)
    return count * step, [round(index * step, 10) for index in range(count + 1)]


def bars(
    rows: Sequence[Bar],
    *,
    name: str,
    width: int,
    title: str,
    description: str,
    x_title: str,
) -> str:
    """Horizontal bars from 0. On a narrow drawing the names stand above their bars."""
    narrow = width < 440
    names = LETTER * max(len(f"{each.label} {each.note}".strip()) for each in rows)
    values = LETTER * max(len(each.text) for each in rows) + 18
    left = 4.0 if narrow else min(names, width * 0.5) + 8
    right = width - (8.0 if narrow else values)
    pitch = 40 if narrow else 26
    thick = 12 if narrow else 14
    top = 6
    bottom = top + pitch * len(rows) + 4
    # An outlying whisker is cut off instead of pressing all bars flat.
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
        room = width - values - left if narrow else left - 8
        fits = int(room / LETTER) - (len(row.note) + 1 if row.note else 0)
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
    if not narrow:  # where it would run through the names
        parts.append(line(left, top, left, bottom, "axis"))
    return picture(name, width, bottom + 44, title, description, parts)


def _highest(rows: Sequence[Bar]) -> float:
    return max(each.value if each.high is None else each.high for each in rows)


def _cut(words: str, most: int) -> str:
    """Cut in the middle: the ends of a layer's name tell it from its neighbours."""
    if len(words) <= most or most < 8:
        return words
    half = (most - 1) // 2
    return f"{words[:half]}…{words[-half:]}"
