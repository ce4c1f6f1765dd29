"""Axes: scales, ticks at round numbers, and the frame of a plot."""

from collections.abc import Callable, Sequence
from math import ceil, floor, log10

from shipway.report.charts.svg import Box, line, words_at


def log_axis(
    values_ms: Sequence[float], left: float, right: float
) -> tuple[Callable[[float], float], list[float]]:
    """A logarithmic scale from values to pixels, and its ticks."""
    low, high = min(values_ms) * 0.9, max(values_ms) * 1.1
    if high / low < 1.6:
        middle = (low * high) ** 0.5
        low, high = middle / 1.3, middle * 1.3
    decades = range(floor(log10(low)) - 1, ceil(log10(high)) + 1)

    def ticks(digits: Sequence[float]) -> list[float]:
        candidates = (digit * 10.0**decade for decade in decades for digit in digits)
        return [round(tick, 6) for tick in candidates if low <= tick <= high]

    chosen = ticks((1, 2, 5))
    if len(chosen) < 3:
        chosen = ticks((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9))
    span = log10(high / low)
    return lambda value: left + (right - left) * log10(value / low) / span, chosen


def linear_axis(most: float, about: int = 5) -> tuple[float, list[float]]:
    """The end of an axis from 0 to at least `most`, and about `about` ticks at round numbers."""
    rough = most / about
    power = 10.0 ** floor(log10(rough))
    step = next(digit * power for digit in (1, 2, 2.5, 5, 10) if digit * power >= rough * 0.999)
    count = ceil(most / step - 1e-9)
    return count * step, [round(index * step, 10) for index in range(count + 1)]


def frame(
    plot: Box,
    y: Callable[[float], float],
    y_ticks: Sequence[float],
    y_title: str,
    x_title: str,
    x_title_below: int = 42,
) -> list[str]:
    """Grid lines and values of the y axis, the line of the x axis, both titles."""
    parts = [words_at(y_title, 4, 14, class_="axis-title")]
    for tick in y_ticks:
        parts.append(line(plot.left, y(tick), plot.right, y(tick), "grid"))
        parts.append(words_at(f"{tick:g}", plot.left - 8, y(tick) + 4.5, class_="tick end"))
    parts.append(line(plot.left, plot.bottom, plot.right, plot.bottom, "axis"))
    x_title_y = plot.bottom + x_title_below
    parts.append(words_at(x_title, plot.right, x_title_y, class_="axis-title end"))
    return parts
