"""The Grafana dashboard, as a list of panels.

    python -m deploy.grafana.dashboard

writes it to shipway.json, which Grafana imports.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("shipway.json")
SCHEMA_VERSION = 42  # Grafana 12; a later one migrates it

GRID_COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
RED, ORANGE, GREEN = "red", "orange", "green"

OF = 'model=~"$model", version=~"$version"'
"""Narrows a metric to what was picked at the top."""
OVER = "$__rate_interval"
WITH_EXEMPLARS = "shipway_request_seconds_bucket"
"""The one metric of which workers keep single requests, for Grafana to show as points."""
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


NOW = (
    stat(
        title="Requests",
        description="Answered by the handlers, of any status.",
        unit="reqps",
        queries=(Query(expr=f"sum({rate('shipway_requests_total')})", legend="a second"),),
    ),
    stat(
        title="Failed",
        description=(
            "Share of requests answered 5xx in the last five minutes, over the whole server; those "
            "that reached no handler are in it. Empty while nobody asks."
        ),
        unit="percentunit",
        queries=(Query(expr="shipway:failed_requests:ratio_rate5m", legend="5xx"),),
        limits={0.01: ORANGE, 0.05: RED},
    ),
    stat(
        title="Latency",
        description="Of a whole request in the handler, without its wait in TorchServe's queue.",
        unit="s",
        queries=tuple(
            Query(expr=quantile(q, "shipway_request_seconds"), legend=name)
            for name, q in QUANTILES.items()
        ),
    ),
    stat(
        title="Workers",
        description="Ready, and how many there should be.",
        queries=(
            Query(expr=f'sum(shipway_workers{{{OF}, state="ready"}})', legend="ready"),
            Query(expr=f"sum(shipway_workers_wanted{{{OF}}})", legend="wanted"),
        ),
    ),
    stat(
        title="Default version",
        description="Answers the requests that name none.",
        queries=(
            Query(
                expr='shipway_default_version{model=~"$model"} == 1', legend="{{model}} {{version}}"
            ),
        ),
        more={"textMode": "name", "colorMode": "none"},
    ),
    stat(
        title="Alerts firing",
        description="docs/monitoring.md has a section for each.",
        queries=(
            Query(
                expr='count(ALERTS{alertname=~"Shipway.+", alertstate="firing"}) or vector(0)',
                legend="alerts",
            ),
        ),
        limits={1: RED},
    ),
)

LATENCY = (
    Panel(
        title="Whole request",
        description="In the handler, from the arrival of its batch to its written answer.",
        unit="s",
        queries=(
            *(
                Query(expr=quantile(q, "shipway_request_seconds"), legend=name)
                for name, q in QUANTILES.items()
            ),
            Query(expr="shipway:target:seconds", legend="target"),
        ),
    ),
    Panel(
        title="Distribution",
        description="How many requests took how long. Two bands are two kinds of request.",
        kind="heatmap",
        queries=(
            Query(
                expr=f"sum by (le) (increase(shipway_request_seconds_bucket{{{OF}}}[{OVER}]))",
                legend="{{le}}",
                shape="heatmap",
            ),
        ),
        more={
            "options": {
                "calculate": False,
                "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
                "yAxis": {"unit": "s"},
                "exemplars": {"color": "rgba(255,0,255,0.7)"},
            }
        },
    ),
    Panel(
        title="Error budget burn",
        description=(
            "How many times too fast slow and failed requests use up the budget. Above 14.4 over "
            "1h and 5m it pages; above 6 over 6h and 30m it is a ticket."
        ),
        queries=tuple(
            Query(
                expr=f'model:shipway_budget_burn:rate{window}{{model=~"$model"}}',
                legend=f"{{{{model}}}} {window}",
            )
            for window in ("5m", "30m", "1h", "6h")
        ),
    ),
    *(
        Panel(
            title=f"{name} by stage",
            description="Queue only where a proxy or a client sets X-Request-Start.",
            unit="s",
            queries=(
                Query(expr=quantile(q, "shipway_stage_seconds", by="stage"), legend="{{stage}}"),
            ),
        )
        for name, q in QUANTILES.items()
    ),
    *(
        Panel(
            title=f"{name} by version",
            description="A whole request in the handler.",
            unit="s",
            queries=(
                Query(
                    expr=quantile(q, "shipway_request_seconds", by="model, version"),
                    legend="{{model}} {{version}}",
                ),
            ),
        )
        for name, q in QUANTILES.items()
    ),
)

THROUGHPUT = (
    Panel(
        title="Requests by version and status",
        description="Answered by the handlers.",
        unit="reqps",
        queries=(
            Query(
                expr=f"sum by (model, version, status) ({rate('shipway_requests_total')})",
                legend="{{model}} {{version}} {{status}}",
            ),
        ),
    ),
    Panel(
        title="Rows by version",
        description="Answered with 200. A request may have many.",
        unit="rowsps",
        queries=(
            Query(
                expr=f"sum by (model, version) ({rate('shipway_rows_total')})",
                legend="{{model}} {{version}}",
            ),
        ),
    ),
    Panel(
        title="Bytes",
        description="Of the requests' and the answers' bodies.",
        unit="Bps",
        queries=(
            Query(expr=f"sum({rate('shipway_request_bytes_total')})", legend="in"),
            Query(expr=f"sum({rate('shipway_response_bytes_total')})", legend="out"),
        ),
    ),
    Panel(
        title="Errors by kind",
        description="What the handlers refused (4xx) or failed (5xx). The README lists the kinds.",
        unit="reqps",
        width=12,
        queries=(
            Query(
                expr=f"sum by (model, kind, status) ({rate('shipway_errors_total')})",
                legend="{{model}} {{kind}} {{status}}",
            ),
        ),
    ),
    Panel(
        title="Failed requests",
        description=(
            "Answered 5xx, a second. Before a handler: the queue was full, or a worker died. The "
            "management API's own 5xx are among those."
        ),
        unit="reqps",
        width=12,
        queries=(
            Query(expr="shipway:failed_in_handler:rate5m", legend="in a handler"),
            Query(expr="shipway:failed_before_handler:rate5m", legend="before a handler"),
        ),
    ),
)


def spread(title: str, description: str, metric: str, unit: str) -> Panel:
    """Mean, p50 and p90 of a histogram that is no latency, by version."""
    of, version = "model, version", "{{model}} {{version}}"
    return Panel(
        title=title,
        description=description,
        unit=unit,
        width=12,
        queries=(
            Query(expr=mean(metric, by=of), legend=f"{version} mean"),
            Query(expr=quantile(0.5, metric, by=of), legend=f"{version} p50"),
            Query(expr=quantile(0.9, metric, by=of), legend=f"{version} p90"),
        ),
    )


BATCHES = (
    spread(
        title="Rows in a run",
        description="That one run of the program answered. At 1, nothing is batched.",
        metric="shipway_batch_rows",
        unit="short",
    ),
    spread(
        title="Padding",
        description="Share of a run that was computed for nothing.",
        metric="shipway_padding_ratio",
        unit="percentunit",
    ),
)

QUEUE = (
    Panel(
        title="Requests waiting",
        description="For a worker in TorchServe, and how many may. One more is answered 503.",
        queries=(
            Query(expr=f"shipway_queue_depth{{{OF}}}", legend="{{model}} {{version}}"),
            Query(expr=f"shipway_queue_limit{{{OF}}}", legend="{{model}} {{version}} limit"),
        ),
    ),
    Panel(
        title="Mean wait",
        description=(
            "From TorchServe's own counters, which allow no percentile and leave gRPC out. "
            "Version `default` is requests that name none."
        ),
        unit="s",
        queries=(
            Query(
                expr=mean("shipway_queue_mean_seconds", "model, version", 'model=~"$model"'),
                legend="{{model}} {{version}}",
            ),
        ),
    ),
    Panel(
        title="Wait since X-Request-Start",
        description="From the proxy or client that set the header to the handler.",
        unit="s",
        queries=tuple(
            Query(
                expr=quantile(q, "shipway_stage_seconds", matchers=f'{OF}, stage="queue"'),
                legend=name,
            )
            for name, q in QUANTILES.items()
        ),
    ),
)

PROCESSES = (
    Panel(
        title="Workers by state",
        description="And how many there should be.",
        queries=(
            Query(expr=f"shipway_workers{{{OF}}}", legend="{{model}} {{version}} {{state}}"),
            Query(expr=f"shipway_workers_wanted{{{OF}}}", legend="{{model}} {{version}} wanted"),
        ),
    ),
    Panel(
        title="Worker restarts and starts",
        description="Within the last ten minutes. A start that is no restart was asked for.",
        queries=(
            Query(
                expr=f"increase(shipway_worker_restarts_total{{{OF}}}[10m])",
                legend="{{model}} {{version}} restarts",
            ),
            Query(
                expr=f"increase(shipway_worker_starts_total{{{OF}}}[10m])",
                legend="{{model}} {{version}} starts",
            ),
        ),
    ),
    Panel(
        title="Memory by process",
        description="Resident. TorchServe's own and the exporter's are there for every model.",
        unit="bytes",
        queries=(
            Query(
                expr='shipway_process_memory_bytes{model=~"$model|", version=~"$version|"}',
                legend="{{process}} {{model}} {{version}} {{worker}}",
            ),
        ),
    ),
    Panel(
        title="Programs",
        description="What each version runs. A fallback is not the one that the export chose.",
        kind="table",
        width=24,
        height=6,
        queries=(Query(expr=f"shipway_model_info{{{OF}}}", legend="", shape="table"),),
        more={
            "transformations": [
                {
                    "id": "organize",
                    "options": {
                        "excludeByName": dict.fromkeys(
                            ("Time", "Value", "__name__", "instance", "job"), True
                        )
                    },
                }
            ]
        },
    ),
)

GPU = (
    Panel(
        title="GPU memory",
        description="In use by anybody, and in all. Empty without NVML.",
        unit="bytes",
        width=12,
        queries=(
            Query(expr="shipway_gpu_memory_used_bytes", legend="GPU {{gpu}} used"),
            Query(expr="shipway_gpu_memory_total_bytes", legend="GPU {{gpu}} in all"),
        ),
    ),
    Panel(
        title="GPU utilization",
        description="Share of the last sample period in which a kernel ran. Empty without NVML.",
        unit="percentunit",
        width=12,
        queries=(Query(expr="shipway_gpu_utilization_ratio", legend="GPU {{gpu}}"),),
    ),
)

ROWS = {
    "Now": NOW,
    "Latency": LATENCY,
    "Throughput and errors": THROUGHPUT,
    "Batches": BATCHES,
    "Queue": QUEUE,
    "Workers and memory": PROCESSES,
    "GPU": GPU,
}


def dashboard() -> dict[str, Any]:
    """As Grafana imports it."""
    return {
        "uid": "shipway",
        "title": "Shipway",
        "description": "Models on TorchServe: docs/monitoring.md says what each panel tells.",
        "tags": ["shipway"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,  # one crosshair for all panels
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [_datasource(), _variable("model"), _variable("version", "model")]},
        "panels": list(_laid_out()),
    }


def _datasource() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
    }


def _variable(label: str, narrowed_by: str = "") -> dict[str, Any]:
    """A choice of a label's values, several or all."""
    matchers = f'{{{narrowed_by}=~"${narrowed_by}"}}' if narrowed_by else ""
    return {
        "name": label,
        "label": label.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": f"label_values(shipway_model_info{matchers}, {label})", "refId": label},
        "refresh": 2,  # when the time range changes
        "sort": 7,  # as a person would: 1.9 before 1.10
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _laid_out() -> Iterable[dict[str, Any]]:
    """Each row's title, then its panels from left to right as long as there is room."""
    y = 0
    number = 0
    for title, panels in ROWS.items():
        number += 1
        at = {"x": 0, "y": y, "w": GRID_COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": title, "gridPos": at, "panels": []}
        x, y = 0, y + 1
        line = 0
        for panel in panels:
            if x + panel.width > GRID_COLUMNS:
                x, y = 0, y + line
            number += 1
            at = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            yield {"id": number, "gridPos": at, **_panel(panel)}
            x, line = x + panel.width, panel.height
        y += line


def _panel(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": GREEN, "value": None}]
    steps += [{"color": colour, "value": value} for value, colour in panel.limits.items()]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.kind == "timeseries":
        defaults["min"] = 0
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [_target(query, chr(ord("A") + at)) for at, query in enumerate(panel.queries)],
        **panel.more,
    }


def _target(query: Query, reference: str) -> dict[str, Any]:
    is_table = query.shape == "table"
    return {
        "refId": reference,
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend,
        "format": query.shape,
        "exemplar": WITH_EXEMPLARS in query.expr,
        "instant": is_table,
        "range": not is_table,
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(dashboard(), indent=2) + "\n")
