"""A panel of the dashboard as data, and the PromQL that panels are made of."""

from dataclasses import dataclass, field
from typing import Any

RED, ORANGE = "red", "orange"

OF = 'model=~"$model", version=~"$version"'
"""Label matchers for the model and version chosen at the top of the dashboard."""
OVER = "$__rate_interval"
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A PromQL expression and the legend of its series."""

    expr: str
    legend: str
    shape: str = "time_series"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel, before it is laid out."""

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str = "short"
    """A unit as Grafana names it."""
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    limits: dict[float, str] = field(default_factory=dict)
    """The value from which on a stat has a colour."""
    more: dict[str, Any] = field(default_factory=dict)
    """Fields of this kind of panel only."""


def rate(metric: str, matchers: str = OF) -> str:
    """The increase per second of a counter."""
    return f"rate({metric}{{{matchers}}}[{OVER}])"


def quantile(q: float, metric: str, by: str = "", matchers: str = OF) -> str:
    """A quantile of a histogram; `by` lists the labels to group by."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) ({rate(f'{metric}_bucket', matchers)}))"


def mean(metric: str, by: str, matchers: str = OF) -> str:
    """The mean of a histogram or summary, grouped by the labels `by`."""
    total, count = rate(f"{metric}_sum", matchers), rate(f"{metric}_count", matchers)
    return f"sum by ({by}) ({total}) / sum by ({by}) ({count})"


def stat(width: int = 4, **given: Any) -> Panel:
    """A panel with the latest value as a number."""
    more = given.pop("more", {})
    options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "none"} | more
    return Panel(kind="stat", width=width, height=4, more={"options": options}, **given)
