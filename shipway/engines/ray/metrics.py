"""The project's metrics as Ray metrics, with the same names, labels and buckets.

Each node exports those of its replicas.
"""

from collections.abc import Mapping
from typing import Any

from ray.util import metrics

from shipway.metrics.declared import Metric


class Series:
    """One series of a metric, with the methods of prometheus-client."""

    def __init__(self, metric: Any, tags: Mapping[str, str]) -> None:
        self._metric, self._tags = metric, dict(tags)

    def observe(self, value: float) -> None:
        """Adds a value to a histogram."""
        self._metric.observe(value, self._tags)

    def inc(self, value: float = 1) -> None:
        """Adds to a counter."""
        if value:  # Ray raises an error for 0
            self._metric.inc(value, self._tags)

    def set(self, value: float) -> None:
        """Sets a gauge."""
        self._metric.set(value, self._tags)


class Family:
    """A metric of this project, registered with Ray."""

    def __init__(self, metric: Metric) -> None:
        options: dict[str, Any] = {"description": metric.help, "tag_keys": metric.labels}
        match metric.kind:
            case "histogram":  # Ray requires bounds above zero
                boundaries = [bound for bound in metric.buckets if bound > 0]
                self._metric = metrics.Histogram(metric.name, boundaries=boundaries, **options)
            case "gauge":
                self._metric = metrics.Gauge(metric.name, **options)
            case _:
                self._metric = metrics.Counter(metric.name, **options)

    def labels(self, **tags: str) -> Series:
        """The series with these labels."""
        return Series(self._metric, tags)
