"""Metrics as Prometheus asks for them, over HTTP."""

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import psutil
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as FamilyExemplar

from shipway.metrics.declared import REQUEST, Metric
from shipway.metrics.files import locked
from shipway.metrics.recorder import Exemplar, Exemplars


class WorkersCollector(Collector):
    """What every worker of a launch has recorded, of those that live and those that are gone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._reading = threading.Lock()

    def collect(self) -> Iterator[Family]:
        """Every family that workers recorded, with the exemplars of REQUEST."""
        # Files that are renamed while they are read would be missing from the sums, and Prometheus
        # would take that for counters that begin again.
        with self._reading, locked(self._directory):
            self._forget_gauges_of_the_dead()
            families = list(MultiProcessCollector(None, str(self._directory)).collect())
            exemplars = self._exemplars()
        for family in families:
            if family.name == REQUEST.name:
                _attach(exemplars, family)
            yield family

    def _forget_gauges_of_the_dead(self) -> None:
        for path in self._directory.glob("gauge_live*.db"):
            pid = int(path.stem.rpartition("_")[2])
            if not psutil.pid_exists(pid):
                mark_process_dead(pid, str(self._directory))

    def _exemplars(self) -> dict[tuple[tuple[str, str], ...], list[Exemplar | None]]:
        """By labels; the latest of each bucket."""
        latest: dict[tuple[tuple[str, str], ...], list[Exemplar | None]] = {}
        for path in self._directory.glob(Exemplars.PATTERN):
            labels, found = Exemplars.read(path)
            key = tuple(sorted(labels.items()))
            both = zip(latest.get(key, [None] * len(found)), found, strict=True)
            latest[key] = [max(each, key=lambda one: one.at if one else 0.0) for each in both]
        return latest


def _attach(
    exemplars: dict[tuple[tuple[str, str], ...], list[Exemplar | None]], family: Family
) -> None:
    """Puts each bucket's exemplar into the samples of REQUEST."""
    places = {bound: place for place, bound in enumerate((*REQUEST.buckets, float("inf")))}
    for number, sample in enumerate(family.samples):
        if "le" not in sample.labels:
            continue
        key = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
        found = exemplars.get(key, [None] * len(places))[places[float(sample.labels["le"])]]
        if found is not None:
            ids = {"request_id": found.request_id, "trace_id": found.trace_id}
            family.samples[number] = sample._replace(
                exemplar=FamilyExemplar(
                    {name: each for name, each in ids.items() if each}, found.seconds, found.at
                )
            )


def family_of(metric: Metric) -> Any:
    """An empty family, for a collector to add what it reads to."""
    kinds: dict[str, Callable[..., Family]] = {
        "counter": CounterMetricFamily,
        "gauge": GaugeMetricFamily,
        "summary": SummaryMetricFamily,
    }
    return kinds[metric.kind](metric.name, metric.help, labels=metric.labels)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def serve(
    host: str,
    port: int,
    *,
    own: Iterable[Collector],
    passed_on: Iterable[Collector],
    missing: Callable[[], str | None],
) -> WSGIServer:
    """Answers /metrics, /metrics/shipway and /readyz from a thread of its own, until `shutdown`.

    /metrics/shipway leaves out what is only passed on, under names that others gave. `missing`
    says what the server is not ready for, None if it is ready. Raises OSError if the port is taken.
    """
    everything, shipway = CollectorRegistry(), CollectorRegistry()
    for collector in own:
        everything.register(collector)
        shipway.register(collector)
    for collector in passed_on:
        everything.register(collector)
    pages = {"/metrics": make_wsgi_app(everything), "/metrics/shipway": make_wsgi_app(shipway)}

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path in pages:
            return pages[path](environ, start_response)
        if path == "/readyz":
            found = missing()
            status = "200 OK" if found is None else "503 Service Unavailable"
            body = f"{found or 'ready'}\n"
        else:
            status, body = (
                "404 Not Found",
                (f"Not found. Available pages: {', '.join(pages)} and /readyz."),
            )
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [body.encode()]

    server = make_server(host, port, app, _Server, _Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
