"""Spans for requests that belong to a trace, by OpenTelemetry.

Off unless OpenTelemetry's own variables name a collector; then only requests that arrive with a
sampled `traceparent` cost anything.
"""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from shipway.extras import install_command
from shipway.metrics.declared import STAGES
from shipway.metrics.observed import AnsweredRequest, ServedProgram

logger = logging.getLogger(__name__)

COLLECTOR_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
# w3.org/TR/trace-context, 3.2: later versions may append fields, version ff is none.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_SAMPLED = 0x01


class Parent(NamedTuple):
    """The span of the client, from a traceparent."""

    trace_id: str
    span_id: str
    sampled: bool


def parse_traceparent(value: str) -> Parent | None:
    """None for a value that is no traceparent, as the standard asks: such a one is ignored."""
    found = _TRACEPARENT.fullmatch(value) if value else None
    if found is None or set(found[1]) == {"0"} or set(found[2]) == {"0"}:
        return None
    return Parent(found[1], found[2], bool(int(found[3], 16) & _SAMPLED))


def tracer_for(served: ServedProgram) -> "Tracer | None":
    """An Observer that sends spans to the collector that the environment names; None if it names
    none, or if OpenTelemetry is not installed, which is logged."""
    if not any(os.environ.get(each) for each in COLLECTOR_VARIABLES):
        return None
    try:
        return Tracer(served)
    except ImportError as error:
        logger.warning(
            (
                'traces are disabled: a collector is configured (%s), but the extra "traces" is '
                "not installed. Install it with `%s`."
            ),
            error,
            install_command("traces"),
        )
        return None


class Tracer:
    """Continues each sampled trace with a span for the request and one for each of its stages."""

    def __init__(self, served: ServedProgram) -> None:
        # opentelemetry is optional: the extra `traces`.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._attributes = {
            "shipway.name": served.name,
            "shipway.version": served.version,
            "shipway.program": served.program,
            "shipway.device": served.device,
        }
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over what is given here.
        provider = TracerProvider(resource=Resource.create({"service.name": "shipway"}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = provider.get_tracer("shipway")

    def observe(self, requests: Sequence[AnsweredRequest]) -> None:
        """Sends the spans of each request that has a sampled traceparent."""
        for request in requests:
            parent = parse_traceparent(request.traceparent)
            if parent is not None and parent.sampled:
                self._send(request, parent)

    def _send(self, request: AnsweredRequest, parent: Parent) -> None:
        from opentelemetry import trace  # opentelemetry is optional

        start_ns = _ns(request.received)
        end_ns = start_ns + int(1e6 * request.stages_ms["total"])
        span = self._tracer.start_span(
            f"handle {self._attributes['shipway.name']}",
            context=_context_of(parent),
            kind=trace.SpanKind.SERVER,
            start_time=start_ns,
            attributes={
                **self._attributes,
                "shipway.request_id": request.id,
                "shipway.rows": request.rows,
                "http.response.status_code": request.status,
            },
        )
        if request.error is not None:
            span.set_status(trace.StatusCode.ERROR, request.error)
        inside = trace.set_span_in_context(span)
        for name, stage_start_ns, stage_end_ns in _stages(request, start_ns, end_ns):
            stage = self._tracer.start_span(name, context=inside, start_time=stage_start_ns)
            stage.end(stage_end_ns)
        span.end(end_ns)


def _stages(request: AnsweredRequest, start_ns: int, end_ns: int) -> Iterator[tuple[str, int, int]]:
    """Name, start and end of each stage, in nanoseconds since 1970.

    Waiting before the handler ends where it starts, and writing where it ends; between them the
    stages are laid one after the other, with the waiting of a request that was read meanwhile
    before its batch. What is left is waiting for the batch's other requests.
    """
    took_ns = {name: int(1e6 * ms) for name, ms in request.stages_ms.items() if name in STAGES}
    waited_ns = int(1e6 * request.waited_ms)
    if (before_ns := took_ns.pop("queue", 0) - waited_ns) > 0:
        yield "queue", start_ns - before_ns, start_ns
    written_ns = took_ns.pop("postprocess")
    at_ns = start_ns
    for name, each_ns in took_ns.items():
        yield name, at_ns, at_ns + each_ns
        at_ns += each_ns
        if name == "decode" and waited_ns:
            yield "queue", at_ns, at_ns + waited_ns
            at_ns += waited_ns
    yield "postprocess", end_ns - written_ns, end_ns


def _context_of(parent: Parent) -> Any:
    from opentelemetry import trace  # opentelemetry is optional

    return trace.set_span_in_context(
        trace.NonRecordingSpan(
            trace.SpanContext(
                trace_id=int(parent.trace_id, 16),
                span_id=int(parent.span_id, 16),
                is_remote=True,
                trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
            )
        )
    )


def _ns(seconds: float) -> int:
    return int(1e9 * seconds)
