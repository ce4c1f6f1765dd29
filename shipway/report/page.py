"""Reports as one HTML file that loads nothing and runs nothing: numbers, and charts for two widths.

The template of a page extends page.html.j2. Rounded numbers carry the exact value in a <data>
element.
"""

import re
from collections.abc import Callable
from math import floor, isfinite, log10
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from shipway.report import charts

WIDE, HALF, NARROW = 1040, 504, 350
"""Widths of charts in pixels: the whole page, half of it, a phone."""


def environment(templates: Path) -> Environment:
    """A Jinja environment for the templates in a folder, which extend page.html.j2."""
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
    """A number rounded to significant digits, with its exact value."""
    return exact(value, rounded(value, digits))


def percent(value: float, decimals: int = 1) -> Markup:
    """A share as a percentage, with its exact value."""
    return exact(value, f"{100 * value:.{decimals}f}%")


def exact(value: float, shown: str) -> Markup:
    """The text `shown` with the exact value in a <data> element."""
    return Markup('<data value="{}">{}</data>').format(value, shown)


def rounded(value: float, digits: int = 3) -> str:
    """A number rounded to significant digits; very small ones as 1.9 × 10⁻⁶."""
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
    """The chart drawn for a wide and for a narrow page; the stylesheet shows the one that fits."""
    # Names become ids, which consist of letters, digits and hyphens.
    name = re.sub(r"[^A-Za-z0-9-]", "-", name)
    return Markup("").join(
        Markup('<div class="{}">{}</div>').format(
            escape(kind), Markup(draw(f"{name}-{kind}", width))
        )
        for kind, width in (("wide", wide), ("narrow", NARROW))
    )
