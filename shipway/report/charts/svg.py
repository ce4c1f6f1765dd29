"""Elements of charts as SVG, drawn for one width each: text stays legible as nothing is scaled.

Colours are classes of the page's stylesheet, so that light, dark and print share one drawing.
Colour is never the only difference between two marks. All text is escaped here. Coordinates are in
pixels.
"""

import re
from collections.abc import Sequence
from html import escape
from math import ceil
from typing import Literal, NamedTuple

Kind = Literal["chosen", "front", "beaten", "refused", "reference"]
"""What a mark stands for: the most important item (a ring), the important ones (filled), the others
(hollow), failed ones (a cross), what they are compared with (a diamond)."""

TEXT = 13
"""Height of the letters, in pixels."""
LETTER = 7.4
"""Width of a letter in pixels, estimated generously, so that reserved space is never too small."""
BOLD_LETTER = 8.8
"""The same for bold letters. DejaVu Sans, which many Linux systems have, is the widest font."""


class Box(NamedTuple):
    """A rectangle, in pixels; y grows downward."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        """The area that both boxes cover, in square pixels."""
        if self.left >= other.right or other.left >= self.right:
            return 0.0
        if self.top >= other.bottom or other.top >= self.bottom:
            return 0.0
        width = min(self.right, other.right) - max(self.left, other.left)
        return width * (min(self.bottom, other.bottom) - max(self.top, other.top))

    def outside(self, other: "Box") -> float:
        """The area of this box outside of `other`, in square pixels."""
        return (self.right - self.left) * (self.bottom - self.top) - self.overlap(other)


def tag(name: str, content: str = "", **attributes: object) -> str:
    """One element. `class_` becomes class; underscores in names become hyphens."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def escaped(value: str) -> str:
    """Text for XML."""
    # XML allows most control characters in no form, not even escaped.
    return escape(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", "?", value))


def _short(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def words_at(words: str, x: float, y: float, **attributes: object) -> str:
    """A line of text at its baseline."""
    return tag("text", escaped(words), x=float(x), y=float(y), **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """A straight line."""
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def polyline(points: Sequence[tuple[float, float]], class_: str, label: str = "") -> str:
    """A line through points; `label` is shown on hover."""
    d = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    title = tag("title", escaped(label)) if label else ""
    return tag("path", title, d=d, class_=class_)


def picture(
    name: str, width: int, height: float, title: str, description: str, parts: Sequence[str]
) -> str:
    """The whole drawing. `name` must be unique in the page."""
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
    """A mark whose shape shows its kind without colours; `label` is shown on hover."""
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
    """The mark of a kind, for a legend."""
    return tag(
        "svg",
        mark(kind, 11, 11, kind),
        viewBox="0 0 22 22",
        width=22,
        height=22,
        aria_hidden="true",
    )
