"""Writes docs/metrics.md from the metrics' declarations: `python scripts/document_metrics.py`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from shipway.metrics.declared import READ, RECORDED, Metric

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"

HEAD = """\
# Metrics

Written by `scripts/document_metrics.py` from `shipway/metrics/declared.py`; change that file.

`shipway serve` starts an exporter beside TorchServe, at `http://127.0.0.1:9404`
(`exporter_address` in config.properties; with nothing behind the `=` there is none).

| path | what is there |
|---|---|
| `/metrics` | everything below, and TorchServe's own metrics under their own names |
| `/metrics/shipway` | what is below, alone: `promtool check metrics` passes it |
| `/readyz` | 200 if every model's default version has all its workers, else 503 and what lacks |

Asked with `Accept: application/openmetrics-text`, as Prometheus does, the buckets of
`shipway_request_seconds` carry exemplars: the `request_id` that the client got as `x-request-id`,
and the `trace_id` of a `traceparent`.

Numbers of workers that have died stay in the sums, so counters never go back while a server runs.
The values of every label are set by whoever operates the server or by this project: no client can
add one.
"""


def lines() -> Iterator[str]:
    yield HEAD
    yield "## Recorded by the workers\n"
    yield from _table(RECORDED)
    yield "\n## Read off the server\n"
    yield from _table(READ)
    yield "\n## Buckets\n"
    for metric in RECORDED:
        if metric.buckets:
            yield f"- `{metric.name}`: {', '.join(f'{each:g}' for each in metric.buckets)}"


def _table(metrics: Sequence[Metric]) -> Iterator[str]:
    yield "| name | kind | labels | meaning |"
    yield "|---|---|---|---|"
    for each in metrics:
        labels = ", ".join(f"`{label}`" for label in each.labels)
        yield f"| `{each.name}` | {each.kind} | {labels} | {each.help} |"


def text() -> str:
    return "\n".join(lines()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(text())
