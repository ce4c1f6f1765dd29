"""Places the names of marks where they cover nothing."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import cos, hypot, pi, sin

from shipway.report.charts.svg import LETTER, TEXT, Box, line, words_at

Stroke = tuple[float, float, float, float]
"""A straight line: x1, y1, x2, y2."""


def place_labels(
    labels: Sequence[tuple[float, float, str]],
    *,
    within: Box,
    taken: Sequence[Box] = (),
    lines: Sequence[Stroke] = (),
    needed: int = 0,
) -> list[Box | None]:
    """A box for each label (x, y, text) near its point, clear of the others.

    Earlier labels choose first. A label without a clear place gets None, unless it is among the
    first `needed`: these take the place that covers least. `taken` boxes and `lines` are avoided.
    """
    strokes = [
        Box(min(x1, x2) - 1, min(y1, y2) - 1, max(x1, x2) + 1, max(y1, y2) + 1)
        for x1, y1, x2, y2 in lines
    ]
    first, others = range(needed), sorted(range(needed, len(labels)), key=lambda i: labels[i][0])
    tried = (
        _place_in_order(labels, [*first, *order], within, taken, strokes, needed)
        for order in ((others, others[::-1]) if len(others) > 1 else (others,))
    )
    return max(tried, key=lambda boxes: sum(box is not None for box in boxes))


def _place_in_order(
    labels: Sequence[tuple[float, float, str]],
    order: Sequence[int],
    within: Box,
    taken: Sequence[Box],
    strokes: Sequence[Box],
    needed: int,
) -> list[Box | None]:
    taken = list(taken)
    leaders: list[Stroke] = []
    boxes: list[Box | None] = [None] * len(labels)
    for turn, index in enumerate(order):
        x, y, words = labels[index]
        # The space above points that come later: their leader lines may need it.
        above = [
            Box(labels[i][0] - 4, labels[i][1] - 60, *labels[i][:2]) for i in order[turn + 1 :]
        ]
        places = list(_places(x, y, LETTER * len(words) + 4, TEXT + 4.0))
        reach = Box(
            min(each.left for each in places),
            min(each.top for each in places),
            max(each.right for each in places),
            max(each.bottom for each in places),
        )
        near = [each for each in strokes if each.overlap(reach)]

        def unclear(box: Box, x: float = x, y: float = y) -> float:
            """How much of the box and of its leader line lies over something else."""
            crossed = sum(_crosses(each, box) for each in leaders)
            if leader := leader_line(box, x, y):
                # The leader line starts among marks that overlap its own; these do not count.
                others = (each for each in taken if not _in(each, x, y))
                crossed += sum(_crosses(leader, each) for each in others)
            covered = sum(box.overlap(each) for each in taken)
            return box.outside(within) + covered + 100 * crossed

        def badness(
            box: Box, x: float = x, y: float = y, above: list[Box] = above, near: list[Box] = near
        ) -> float:
            crossed_lines = sum(box.overlap(each) for each in near)
            blocked = sum(box.overlap(each) > 0 for each in above)
            near_x, near_y = _nearest(box, x, y)
            distance = hypot(near_x - x, near_y - y)
            return 50 * unclear(box, x, y) + 4 * crossed_lines + 80 * blocked + distance

        best = min(places, key=badness)
        if index >= needed and unclear(best) > 0.01:  # more than rounding errors
            continue
        boxes[index] = best
        taken.append(best)
        if leader := leader_line(best, x, y):
            leaders.append(leader)
    return boxes


def leader_line(box: Box, x: float, y: float) -> Stroke | None:
    """The line from a point to its label, or None if they are close."""
    near_x, near_y = _nearest(box, x, y)
    return (x, y, near_x, near_y) if hypot(near_x - x, near_y - y) > 16 else None


def _places(x: float, y: float, width: float, height: float) -> Iterator[Box]:
    """Places around a point, the nearest first."""
    for distance in (12, 20, 30, 42, 56, 72, 90, 110, 132, 156, 182):
        for turn in (0, 8, 4, 12, 2, 14, 6, 10, 1, 15, 3, 13, 5, 11, 7, 9):
            across, down = cos(turn * pi / 8), -sin(turn * pi / 8)
            left = x + distance * across - width * (1 - across) / 2
            top = y + distance * down - height * (1 - down) / 2
            yield Box(left, top, left + width, top + height)
        # Beside a vertical leader line, left or right of it.
        for left in (x - 4, x - width + 4):
            for top in (y - distance - height, y + distance):
                yield Box(left, top, left + width, top + height)


def _nearest(box: Box, x: float, y: float) -> tuple[float, float]:
    return min(max(x, box.left), box.right), min(max(y, box.top + 3), box.bottom - 3)


def _in(box: Box, x: float, y: float) -> bool:
    return box.left <= x <= box.right and box.top <= y <= box.bottom


def _crosses(line: Stroke, box: Box) -> bool:
    x1, y1, x2, y2 = line
    return any(
        _in(box, x1 + (x2 - x1) * part / 12, y1 + (y2 - y1) * part / 12) for part in range(1, 12)
    )


def strokes_of(lines: Sequence[Sequence[tuple[float, float]]]) -> list[Stroke]:
    """The straight pieces of lines through points."""
    return [(*start, *end) for points in lines for start, end in pairwise(points)]


def label_at(words: str, box: Box, x: float, y: float, style: str) -> list[str]:
    """A label in the box that `place_labels` boxes, with a leader line to (x, y) if it is far."""
    parts = []
    if leader := leader_line(box, x, y):
        parts.append(line(*leader, "leader"))
    parts.append(words_at(words, box.left + 2, box.bottom - 4, class_=f"label {style}"))
    return parts
