from contextlib import closing

from shipway.engines.torchserve.metrics import MetricsClient
from tests.servers import RunningServer


def test_its_own_metrics_are_read_with_the_waits_in_its_queue(server: RunningServer) -> None:
    server.inference.predict("echo", b"hello", version="1.0")
    with closing(MetricsClient(server.record)) as client:
        metrics = client.read()
    assert "ts_inference_requests_total" in {
        sample.name for family in metrics.families for sample in family.samples
    }
    requests, waited_s = metrics.queue_waits["echo", "1.0"]
    assert requests >= 1
    assert waited_s >= 0
