"""What an expression asks for: names of metrics, and of their labels."""

import re

WORDS = {
    *("sum", "count", "and", "or", "unless"),
    *("rate", "increase", "scalar", "vector", "clamp_min", "histogram_quantile"),
}
"""Of the language itself, as far as deploy/ uses it."""


def selectors(expr: str) -> list[tuple[str, set[str]]]:
    """Each metric that is named, with the labels that it is narrowed by."""
    expr = re.sub(r"\b(by|on|ignoring)\s*\([^)]*\)", "", expr)
    found = re.findall(r'([a-zA-Z_:][\w:]*)\s*(?:\{((?:[^"}]|"[^"]*")*)\})?', _without_ranges(expr))
    return [
        (name, set(re.findall(r"(\w+)\s*[=!]~?", re.sub(r'"[^"]*"', "", matchers))))
        for name, matchers in found
        if name not in WORDS
    ]


def grouped_by(expr: str) -> set[str]:
    """The labels in `by` and `on`."""
    lists = re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expr)
    return {label.strip() for each in lists for label in each.split(",")}


def _without_ranges(expr: str) -> str:
    return re.sub(r"\[[^\]]*\]", "", expr)
