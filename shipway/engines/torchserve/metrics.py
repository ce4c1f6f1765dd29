"""What TorchServe itself counts, read from its metrics API."""

import re

import httpx
from prometheus_client.core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

from shipway.engines.errors import Unreachable
from shipway.engines.protocol import EngineMetrics
from shipway.engines.state import ServerRecord

ANSWER_WITHIN_S = 2.0

# TorchServe's counters behind the mean of its queue; both have the same labels.
QUEUED_MICROSECONDS = "ts_queue_latency_microseconds"
QUEUED_REQUESTS = "ts_inference_requests_total"


class MetricsClient:
    """Reads the metrics API of one server."""

    def __init__(self, record: ServerRecord) -> None:
        self._http = httpx.Client(
            base_url=record.addresses.metrics,
            timeout=ANSWER_WITHIN_S,
            verify=record.trust,
            trust_env=False,
        )

    def read(self) -> EngineMetrics:
        """What it counts now. Raises Unreachable."""
        try:
            answer = self._http.get("/metrics").raise_for_status()
            # The parser, and OpenMetrics, know no counter whose name does not end in _total, as
            # most of TorchServe's do not. Without a type they keep their names.
            text = re.sub(
                r"^(# TYPE \S+)(?<!_total) counter$", r"\1 untyped", answer.text, flags=re.M
            )
            families = list(text_string_to_metric_families(text))
        except (httpx.HTTPError, ValueError) as error:
            raise Unreachable(
                f"The metrics at {self._http.base_url} cannot be read ({error}). Check that the "
                "server runs."
            ) from error
        return EngineMetrics(families=families, queue_waits=_queue_waits(families))

    def close(self) -> None:
        """Ends the connection."""
        self._http.close()


def _queue_waits(families: list[Family]) -> dict[tuple[str, str], tuple[float, float]]:
    values = {
        (sample.name, sample.labels["model_name"], sample.labels["model_version"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name in (QUEUED_MICROSECONDS, QUEUED_REQUESTS)
    }
    return {
        (model, version): (requests, values.get((QUEUED_MICROSECONDS, model, version), 0.0) / 1e6)
        for (name, model, version), requests in values.items()
        if name == QUEUED_REQUESTS
    }
