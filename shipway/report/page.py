"""Pages of one file that load nothing and run nothing: numbers, and charts for two widths.

A page's template extends page.html.j2. What is rounded for the eye carries the exact value beside
it, in a <data> element.
"""

import re
from collections.abc import Callable
from math import floor, isfinite, log10
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from shipway.report import charts

WIDE, HALF, NARROW = 1040, 504, 350
"""Widths that charts are drawn for: a whole line, half of one, a phone's."""


def environment(templates: Path) -> Environment:
    """For the templates in a folder, and for page.html.j2, which they extend."""
    made = Environment(
        loader=FileSystemLoader([templates, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number,
        "percent": percent,
        "first_up": lambda words: words[:1].upper() + words[1:],
    }
    made.globals |= {"symbol": lambda kind: Markup(charts.symbol(kind))}
    return made


def number(value: float, digits: int = 3) -> Markup:
    """Rounded to some digits; tiny ones as 1.9 × 10⁻⁶."""
    return exact(value, rounded(value, digits))


def percent(value: float, decimals: int = 1) -> Markup:
    return exact(value, f"{100 * value:.{decimals}f}%")


def exact(value: float, shown: str) -> Markup:
    return Markup('<data value="{}">{}</data>').format(value, shown)


def rounded(value: float, digits: int = 3) -> str:
    if not isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    power = floor(log10(abs(value)))
    if -3 <= power < 6:
        return f"{value:,.{max(0, digits - 1 - power)}f}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_RAISED)}"


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def at_widths(name: str, draw: Callable[[str, int], str], wide: int) -> Markup:
    """The chart drawn twice; the stylesheet shows the one that fits."""
    # Names become ids: letters, digits and hyphens, whatever they were made from.
    name = re.sub(r"[^A-Za-z0-9-]", "-", name)
    return Markup("").join(
        Markup('<div class="{}">{}</div>').format(
            escape(kind), Markup(draw(f"{name}-{kind}", width))
        )
        for kind, width in (("wide", wide), ("narrow", NARROW))
    )
