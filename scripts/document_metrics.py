"""Writes docs/metrics.md from the metrics' declarations: `python scripts/document_metrics.py`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from shipway.metrics.declared import READ, RECORDED, Metric

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"

HEAD = """\
# Metrics

This page is generated: `python scripts/document_metrics.py` writes it from
`shipway/metrics/declared.py`. Change that file.

`shipway serve` starts an exporter beside TorchServe, at `http://127.0.0.1:9404`
(`exporter_address` in config.properties; with an empty value there is none).

| path | content |
|---|---|
| `/metrics` | all metrics below, and TorchServe's own under their own names |
| `/metrics/shipway` | the metrics below alone; `promtool check metrics` passes it |
| `/readyz` | 200 if every default version has all its workers, else 503, with what is missing |

If the request has `Accept: application/openmetrics-text`, as Prometheus sends it, the buckets of
`shipway_request_seconds` carry exemplars: the `request_id` that the client got as `x-request-id`,
and the `trace_id` of a `traceparent`.

The counts of workers that have died stay in the sums, so counters never decrease while a server
runs. The values of every label are set by whoever operates the server or by this project; no
client can add one.
"""


def lines() -> Iterator[str]:
    """The lines of the page."""
    yield HEAD
    yield "## Recorded by the workers\n"
    yield from _table(RECORDED)
    yield "\n## Read from the server\n"
    yield from _table(READ)
    yield "\n## Buckets\n"
    for metric in RECORDED:
        if metric.buckets:
            yield f"- `{metric.name}`: {', '.join(f'{bound:g}' for bound in metric.buckets)}"


def _table(metrics: Sequence[Metric]) -> Iterator[str]:
    yield "| name | kind | labels | meaning |"
    yield "|---|---|---|---|"
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        yield f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |"


def text() -> str:
    """The whole page, in Markdown."""
    return "\n".join(lines()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(text())
