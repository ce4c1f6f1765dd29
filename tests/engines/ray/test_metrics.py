"""Metrics registered with Ray, in a process that has joined no cluster."""

import pytest

from shipway.metrics.declared import Metric

pytest.importorskip("ray", reason="the extra `ray` is not installed")

from ray.util import metrics

from shipway.engines.ray.metrics import Family
from shipway.metrics import declared

KINDS = {
    "counter": metrics.Counter,
    "gauge": metrics.Gauge,
    "histogram": metrics.Histogram,
}
DECLARED = {metric.name: metric for metric in vars(declared).values() if isinstance(metric, Metric)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_metric_has_the_same_name_and_labels_in_ray(kind):
    metric = next(metric for metric in DECLARED.values() if metric.kind == kind)
    registered = Family(metric)._metric
    assert type(registered) is KINDS[kind]
    assert registered.info["name"] == metric.name
    assert registered.info["description"] == metric.help
    assert registered.info["tag_keys"] == tuple(metric.labels)


def test_a_series_takes_what_prometheus_client_takes():
    for kind, method in (("counter", "inc"), ("gauge", "set"), ("histogram", "observe")):
        metric = next(metric for metric in DECLARED.values() if metric.kind == kind)
        series = Family(metric).labels(**dict.fromkeys(metric.labels, "x"))
        getattr(series, method)(2.0)


def test_counting_nothing_is_no_error_though_ray_refuses_it():
    metric = next(metric for metric in DECLARED.values() if metric.kind == "counter")
    family = Family(metric)
    labels = dict.fromkeys(metric.labels, "x")
    family.labels(**labels).inc(0)
    with pytest.raises(ValueError):
        family._metric.inc(0, labels)


def test_a_label_that_was_not_declared_is_refused():
    metric = next(metric for metric in DECLARED.values() if metric.kind == "counter")
    with pytest.raises(ValueError):
        Family(metric).labels(planet="mars").inc(1)
