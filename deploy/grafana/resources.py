"""The dashboard's rows about batches, the queue, processes and GPUs."""

from deploy.grafana.panels import OF, QUANTILES, Panel, Query, mean, quantile


def spread(title: str, description: str, metric: str, unit: str) -> Panel:
    """Mean, p50 and p90 of a histogram other than a latency, by version."""
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
        description="Rows that one run of the program computed. At 1, nothing is batched.",
        metric="shipway_batch_rows",
        unit="short",
    ),
    spread(
        title="Padding",
        description="Share of a run that was padding, computed for nothing.",
        metric="shipway_padding_ratio",
        unit="percentunit",
    ),
)

QUEUE = (
    Panel(
        title="Requests waiting",
        description="Requests without an answer yet, and the limit of those that wait.",
        queries=(
            Query(expr=f"shipway_queue_depth{{{OF}}}", legend="{{model}} {{version}}"),
            Query(expr=f"shipway_queue_limit{{{OF}}}", legend="{{model}} {{version}} limit"),
        ),
    ),
    Panel(
        title="Mean wait",
        description=(
            "Of requests for a worker. Without the front from TorchServe's counters, which leave "
            "gRPC out and have the version `default` for requests that name none."
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
        description="Workers in each state, and how many there should be.",
        queries=(
            Query(expr=f"shipway_workers{{{OF}}}", legend="{{model}} {{version}} {{state}}"),
            Query(expr=f"shipway_workers_wanted{{{OF}}}", legend="{{model}} {{version}} wanted"),
        ),
    ),
    Panel(
        title="Worker restarts and starts",
        description="Within the last ten minutes. A start that is not a restart was requested.",
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
        title="Restarts of other processes",
        description="Within the last ten minutes: of the front, the exporter, and what keeps them.",
        queries=(
            Query(
                expr="increase(shipway_process_restarts_total[10m])",
                legend="{{process}}",
            ),
        ),
    ),
    Panel(
        title="Memory by process",
        description="Resident memory. TorchServe and the exporter show for every model.",
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
        description="What each version runs. A fallback is not what the export chose.",
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
        description="Memory in use by all processes, and in total. Empty without NVML.",
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
