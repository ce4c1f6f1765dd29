"""The project's metrics in Ray's: the same names, labels and buckets, exported by each node."""

from collections.abc import Mapping
from typing import Any

from ray.util import metrics

from shipway.metrics.declared import Metric


class Series:
    """One series of a family, with the methods that prometheus-client's have."""

    def __init__(self, metric: Any, tags: Mapping[str, str]) -> None:
        self._metric, self._tags = metric, dict(tags)

    def observe(self, value: float) -> None:
        """Adds a value to a histogram."""
        self._metric.observe(value, self._tags)

    def inc(self, value: float = 1) -> None:
        """Adds to a counter."""
        if value:  # Ray refuses to count nothing
            self._metric.inc(value, self._tags)

    def set(self, value: float) -> None:
        """Sets a gauge."""
        self._metric.set(value, self._tags)


class Family:
    """A metric of this project as Ray has it."""

    def __init__(self, metric: Metric) -> None:
        described = {"description": metric.help, "tag_keys": metric.labels}
        match metric.kind:
            case "histogram":  # whose lowest bound Ray wants above zero
                boundaries = [each for each in metric.buckets if each > 0]
                self._made = metrics.Histogram(metric.name, boundaries=boundaries, **described)
            case "gauge":
                self._made = metrics.Gauge(metric.name, **described)
            case _:
                self._made = metrics.Counter(metric.name, **described)

    def labels(self, **tags: str) -> Series:
        """The series with these labels."""
        return Series(self._made, tags)
