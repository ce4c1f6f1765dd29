"""A worker's own metrics, in files that the exporter reads while and after the worker lives, or
wherever else the server keeps metrics.

prometheus-client's multiprocess mode keeps each process's numbers in files of their own, which are
added up when they are read, so counters go on where a worker that died left them. It keeps no
exemplars; those are kept here.
"""

import json
import mmap
import os
import struct
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from shipway.metrics.declared import (
    BATCH,
    BYTES_IN,
    BYTES_OUT,
    DIRECTORY_VARIABLE,
    ERRORS,
    INFO,
    PADDING,
    REQUEST,
    REQUESTS,
    ROWS_ANSWERED,
    STAGE,
    STAGES,
    STARTS,
    Metric,
)
from shipway.metrics.files import EXEMPLARS, LABELS_BYTES, exemplars_file, take_files
from shipway.metrics.observed import AnsweredRequest, ServedProgram
from shipway.metrics.traces import parse_traceparent


@cache
def family(metric: Metric) -> Any:
    """The metric as prometheus-client has it, made once in a process."""
    # prometheus_client reads DIRECTORY_VARIABLE when it is imported, and workers of a server
    # without an exporter do not need it.
    import prometheus_client as prometheus

    _never_ask_for_the_process()
    match metric.kind:
        case "counter":
            return prometheus.Counter(metric.name, metric.help, metric.labels)
        case "gauge":  # of processes that are gone, nothing is shown
            return prometheus.Gauge(
                metric.name, metric.help, metric.labels, multiprocess_mode="livemax"
            )
        case "histogram":
            return prometheus.Histogram(
                metric.name, metric.help, metric.labels, buckets=metric.buckets
            )
    raise AssertionError(f"no worker records a {metric.kind}")


@cache
def _never_ask_for_the_process() -> None:
    """By default each number asks the system for the process's id whenever it changes, which is a
    tenth of a small model's time. A worker does not fork."""
    # prometheus_client is optional, see `family`.
    from prometheus_client import values

    if DIRECTORY_VARIABLE in os.environ:
        own = os.getpid()
        values.ValueClass = values.MultiProcessValue(lambda: own)


class Recorder:
    """An Observer that counts and times one model's requests."""

    def __init__(
        self,
        served: ServedProgram,
        directory: Path | None = None,
        family: Callable[[Metric], Any] = family,
    ) -> None:
        """`directory`, that of DIRECTORY_VARIABLE, gets exemplars and has room for what
        prometheus-client keeps; `family` makes the metrics, as
        prometheus-client has them, with `labels`. Raises OSError where there is no room."""
        self._family = family
        self._labels = {
            "model": served.name,
            "version": served.version,
            "program": served.program,
            "device": served.device,
        }
        self._exemplars = Exemplars.create(directory, self._labels) if directory else None
        self._request = _Values(self._of(REQUEST))
        self._stages: dict[str, _Values] = {}
        self._batch, self._padding = _Values(self._of(BATCH)), _Values(self._of(PADDING))
        self._rows = self._of(ROWS_ANSWERED)
        self._bytes_in, self._bytes_out = self._of(BYTES_IN), self._of(BYTES_OUT)
        self._by_status: dict[int, Any] = {}
        self._by_error: dict[tuple[str, int], Any] = {}
        self._info = self._of(
            INFO,
            precision=served.precision,
            artifact=served.artifact,
            fallback=str(served.is_fallback).lower(),
        )
        self.tell()
        self._of(STARTS).inc()

    def tell(self) -> None:
        """Says again what runs here, for a server that forgets a gauge that is not set again."""
        self._info.set(1)

    def observe(self, requests: Sequence[AnsweredRequest]) -> None:
        """Counts each request once, and each run that several of them shared once."""
        took_s = [request.stages_ms["total"] / 1000 for request in requests]
        self._request.add(took_s)
        if self._exemplars:
            self._exemplars.keep(took_s, requests)
        self._time_stages(requests)
        self._count(requests)
        batches = {id(batch): batch for request in requests for batch in request.batches}.values()
        self._batch.add([batch.rows for batch in batches])
        self._padding.add([batch.padding for batch in batches])

    def _time_stages(self, requests: Sequence[AnsweredRequest]) -> None:
        by_stage: dict[str, list[float]] = {}
        for request in requests:
            for name, took_ms in request.stages_ms.items():
                by_stage.setdefault(name, []).append(took_ms / 1000)
        for name, seconds in by_stage.items():
            if name not in self._stages and name in STAGES:
                self._stages[name] = _Values(self._of(STAGE, stage=name))
            if name in self._stages:
                self._stages[name].add(seconds)

    def _count(self, requests: Sequence[AnsweredRequest]) -> None:
        rows = bytes_in = bytes_out = 0
        statuses: dict[int, int] = {}
        for request in requests:
            status = request.status
            statuses[status] = statuses.get(status, 0) + 1
            bytes_in += request.bytes_in
            bytes_out += request.bytes_out
            if request.error is None:
                rows += request.rows
                continue
            kind = (request.error, status)
            if kind not in self._by_error:
                self._by_error[kind] = self._of(ERRORS, kind=request.error, status=str(status))
            self._by_error[kind].inc()
        for status, count in statuses.items():
            if status not in self._by_status:
                self._by_status[status] = self._of(REQUESTS, status=str(status))
            self._by_status[status].inc(count)
        self._rows.inc(rows)
        self._bytes_in.inc(bytes_in)
        self._bytes_out.inc(bytes_out)

    def _of(self, metric: Metric, **labels: str) -> Any:
        known = self._labels | labels
        return self._family(metric).labels(**{name: known[name] for name in metric.labels})


class _Values:
    """A histogram that takes the values of a whole batch at once: each write to a mapped file takes
    a microsecond, and those of a batch fall into few buckets."""

    def __init__(self, histogram: Any) -> None:
        """`histogram` is prometheus-client's own, or another with its `observe`."""
        self._observe = histogram.observe
        # prometheus-client has no such method. Its attributes are the same since 0.4.
        self._bounds = getattr(histogram, "_upper_bounds", None)
        self._buckets = getattr(histogram, "_buckets", None)
        self._sum = getattr(histogram, "_sum", None)

    def add(self, values: Sequence[float]) -> None:
        """Observes each value."""
        if len(values) == 1 or self._bounds is None or self._buckets is None or self._sum is None:
            for value in values:
                self._observe(value)
            return
        counts: dict[int, int] = {}
        for value in values:
            place = bisect_left(self._bounds, value)
            counts[place] = counts.get(place, 0) + 1
        for place, count in counts.items():
            self._buckets[place].inc(count)
        self._sum.inc(sum(values))


class Exemplar(NamedTuple):
    """One request that a bucket of REQUEST shows as an example."""

    seconds: float
    at: float
    """Seconds since 1970."""
    request_id: str
    trace_id: str


class Exemplars:
    """The last request that fell into each bucket of REQUEST, in a file of fixed places.

    One process writes it, any may read it meanwhile: a torn exemplar would have the id of another
    request of its own bucket.
    """

    PATTERN = f"{EXEMPLARS}_*.bin"
    _PLACE = struct.Struct("<dd40s32s")

    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped = mapped

    @classmethod
    def create(cls, directory: Path, labels: Mapping[str, str]) -> "Exemplars":
        """The file of this process, for a program with these labels, beside the others that it
        needs there. Raises OSError if the disk is full."""
        head = json.dumps(labels).encode()
        size = LABELS_BYTES + cls._PLACE.size * (len(REQUEST.buckets) + 1)
        take_files(directory, labels, size)
        with exemplars_file(directory, os.getpid()).open("r+b") as file:
            mapped = mmap.mmap(file.fileno(), size)
        mapped[: len(head)] = head
        return cls(mapped)

    def keep(self, took_s: Sequence[float], requests: Sequence[AnsweredRequest]) -> None:
        """Puts requests, which took so many seconds each, into their buckets, in place of those
        before."""
        last: dict[int, tuple[float, AnsweredRequest]] = {}
        for seconds, request in zip(took_s, requests, strict=True):
            last[bisect_left(REQUEST.buckets, seconds)] = (seconds, request)
        now = time.time()
        for bucket, (seconds, request) in last.items():
            start = LABELS_BYTES + self._PLACE.size * bucket
            parent = parse_traceparent(request.traceparent) if request.traceparent else None
            trace_id = parent.trace_id.encode() if parent else b""
            packed = self._PLACE.pack(seconds, now, request.id.encode()[:40], trace_id)
            self._mapped[start : start + self._PLACE.size] = packed

    @classmethod
    def read(cls, path: Path) -> tuple[dict[str, str], list[Exemplar | None]]:
        """The labels, and what each bucket has, the one above the highest bound last."""
        content = path.read_bytes()
        labels = json.loads(content[:LABELS_BYTES].rstrip(b"\0"))
        found: list[Exemplar | None] = []
        for seconds, at, request_id, trace_id in cls._PLACE.iter_unpack(content[LABELS_BYTES:]):
            texts = (each.rstrip(b"\0").decode(errors="replace") for each in (request_id, trace_id))
            found.append(Exemplar(seconds, at, *texts) if at else None)
        return labels, found
