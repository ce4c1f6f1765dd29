"""A panel of the dashboard as data, and the PromQL that panels are made of."""

from dataclasses import dataclass, field
from typing import Any

RED, ORANGE = "red", "orange"

OF = 'model=~"$model", version=~"$version"'
"""Narrows a metric to what was picked at the top."""
OVER = "$__rate_interval"
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    expr: str
    legend: str
    shape: str = "time_series"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str = "short"
    """As Grafana spells it."""
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    limits: dict[float, str] = field(default_factory=dict)
    """From which value on a stat has which colour."""
    more: dict[str, Any] = field(default_factory=dict)
    """What only this kind of panel has."""


def rate(metric: str, matchers: str = OF) -> str:
    return f"rate({metric}{{{matchers}}}[{OVER}])"


def quantile(q: float, metric: str, by: str = "", matchers: str = OF) -> str:
    """Of a histogram; `by` is a list of labels."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) ({rate(f'{metric}_bucket', matchers)}))"


def mean(metric: str, by: str, matchers: str = OF) -> str:
    """Of a histogram or summary."""
    total, count = rate(f"{metric}_sum", matchers), rate(f"{metric}_count", matchers)
    return f"sum by ({by}) ({total}) / sum by ({by}) ({count})"


def stat(width: int = 4, **given: Any) -> Panel:
    more = given.pop("more", {})
    options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "none"} | more
    return Panel(kind="stat", width=width, height=4, more={"options": options}, **given)
