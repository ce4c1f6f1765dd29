"""The dashboard's rows about requests: now, latency, throughput and errors."""

from deploy.grafana.panels import (
    OF,
    ORANGE,
    OVER,
    QUANTILES,
    RED,
    Panel,
    Query,
    quantile,
    rate,
    stat,
)

NOW = (
    stat(
        title="Requests",
        description="Requests that handlers answered, with any status.",
        unit="reqps",
        queries=(Query(expr=f"sum({rate('shipway_requests_total')})", legend="a second"),),
    ),
    stat(
        title="Failed",
        description=(
            "Share of requests answered 5xx in the last five minutes, over the whole server, with "
            "those that reached no handler. Empty without requests."
        ),
        unit="percentunit",
        queries=(Query(expr="shipway:failed_requests:ratio_rate5m", legend="5xx"),),
        limits={0.01: ORANGE, 0.05: RED},
    ),
    stat(
        title="Latency",
        description="A whole request in the worker. With front=off, without its wait before that.",
        unit="s",
        queries=tuple(
            Query(expr=quantile(q, "shipway_request_seconds"), legend=name)
            for name, q in QUANTILES.items()
        ),
    ),
    stat(
        title="Workers",
        description="Workers that are ready, and how many there should be.",
        queries=(
            Query(expr=f'sum(shipway_workers{{{OF}, state="ready"}})', legend="ready"),
            Query(expr=f"sum(shipway_workers_wanted{{{OF}}})", legend="wanted"),
        ),
    ),
    stat(
        title="Default version",
        description="The version that answers requests without a version.",
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
        description="How many requests took how long. Two bands mean two kinds of request.",
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
            "How many times faster than allowed slow and failed requests use up the error budget. "
            "Above 14.4 over 1h and 5m it pages; above 6 over 6h and 30m it opens a ticket."
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
        description="Bytes of the bodies of requests and answers.",
        unit="Bps",
        queries=(
            Query(expr=f"sum({rate('shipway_request_bytes_total')})", legend="in"),
            Query(expr=f"sum({rate('shipway_response_bytes_total')})", legend="out"),
        ),
    ),
    Panel(
        title="Errors by kind",
        description="Requests that handlers refused (4xx) or failed (5xx), by kind of error.",
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
            "Requests answered 5xx, a second. Before a handler: the queue was full, or a worker "
            "died; 5xx of the management API count there too."
        ),
        unit="reqps",
        width=12,
        queries=(
            Query(expr="shipway:failed_in_handler:rate5m", legend="in a handler"),
            Query(expr="shipway:failed_before_handler:rate5m", legend="before a handler"),
        ),
    ),
)
