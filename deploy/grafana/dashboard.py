"""The Grafana dashboard, laid out from the panels of `requests` and `resources`.

    python -m deploy.grafana.dashboard

writes it to shipway.json, which Grafana imports.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deploy.grafana.panels import Panel, Query
from deploy.grafana.requests import LATENCY, NOW, THROUGHPUT
from deploy.grafana.resources import BATCHES, GPU, PROCESSES, QUEUE

FILE = Path(__file__).with_name("shipway.json")
SCHEMA_VERSION = 42  # of Grafana 12; later versions migrate it

GRID_COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN = "green"
WITH_EXEMPLARS = "shipway_request_seconds_bucket"
"""The only metric with exemplars: single requests, which Grafana shows as points."""

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
    """The dashboard as Grafana imports it."""
    return {
        "uid": "shipway",
        "title": "Shipway",
        "description": "Models on TorchServe. docs/monitoring.md explains each panel.",
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
    """A variable with the values of a label, of which several or all can be chosen."""
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
    """The title of each row, then its panels from left to right while there is room."""
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
