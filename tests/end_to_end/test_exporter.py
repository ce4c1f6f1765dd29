"""What the exporter of a real server shows, and what it does when workers and servers die."""

import os
import signal
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import psutil
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families

from shipway.archive.pack import pack
from shipway.engines.torchserve.tokens import bearer
from shipway.metrics.declared import METRICS, STAGES
from tests.conftest import PHOTOS, retold
from tests.servers import RunningServer, running_server, until

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ONLY_WITH_A_GPU = {"shipway_gpu_memory_used_bytes", "shipway_gpu_memory_total_bytes"} | {
    "shipway_gpu_utilization_ratio"
}


class Collector(ThreadingHTTPServer):
    """An OTLP collector: it keeps every span that it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Received)
        self.spans: list = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Received(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="module")
def collector():
    with Collector() as server:
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def server(tiny_artifact, collector, tmp_path_factory):
    """Two versions of the tiny classifier, the first with two workers."""
    folder = tmp_path_factory.mktemp("served")
    store = folder / "model_store"
    first = pack(tiny_artifact, store)
    second = pack(retold(tiny_artifact, folder / "second", version="2.0"), store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_address[1]}"
        )
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        with running_server(folder, model_store=store) as server:
            for mar, version, workers in ((first, "1.0", 2), (second, "2.0", 1)):
                server.management.register(
                    mar.name,
                    name="tiny",
                    version=version,
                    batch_size=8,
                    max_batch_delay_ms=0,
                    workers=workers,
                )
            yield server


def ask(server: RunningServer, *, body: bytes | None = None, **headers: str) -> httpx.Response:
    return httpx.post(
        f"{server.record.addresses.inference}/predictions/tiny",
        content=(PHOTOS / "chelsea.png").read_bytes() if body is None else body,
        headers={"content-type": "image/png"} | bearer(server.tokens.get("inference")) | headers,
        trust_env=False,
    )


def scrape(server: RunningServer, page: str = "/metrics"):
    text = httpx.get(f"{server.record.addresses.exporter}{page}", trust_env=False).text
    return {family.name: family for family in text_string_to_metric_families(text)}


def total(server: RunningServer, name: str, **labels: str) -> float:
    return sum(
        each.value
        for family in scrape(server).values()
        for each in family.samples
        if each.name == name and labels.items() <= each.labels.items()
    )


def test_every_declared_metric_is_there_and_torchserves_keep_their_names(server):
    ask(server, **{"x-request-start": f"t={time.time():.3f}"})
    ask(server, body=b"no image")
    # The exporter asks no more often than every few seconds.
    until(lambda: total(server, "shipway_workers", state="ready") == 3)
    found = {each.name for family in scrape(server).values() for each in family.samples}
    for metric in METRICS:
        if metric.name not in ONLY_WITH_A_GPU:
            suffix = {"histogram": "_bucket", "summary": "_sum"}.get(metric.kind, "")
            assert metric.name + suffix in found
    assert {"CPUUtilization", "WorkerLoadTime"} <= found
    own = {each.name for f in scrape(server, "/metrics/shipway").values() for each in f.samples}
    assert own and all(each.startswith("shipway_") for each in own)


def test_queue_workers_versions_and_memory_are_the_management_apis(server):
    # The exporter asks no more often than every few seconds.
    until(lambda: total(server, "shipway_workers", state="ready") == 3)
    assert total(server, "shipway_workers_wanted", version="1.0") == 2
    assert total(server, "shipway_queue_depth") == 0
    assert total(server, "shipway_queue_limit", version="2.0") == 100
    assert total(server, "shipway_default_version", version="1.0") == 1
    assert total(server, "shipway_default_version", version="2.0") == 0
    assert total(server, "shipway_model_info", fallback="false") == 2
    for process in ("torchserve", "exporter", "worker"):
        assert total(server, "shipway_process_memory_bytes", process=process) > 10e6


def test_what_waits_and_fails_at_the_front_is_told(server):
    before = total(server, "shipway_queue_mean_seconds_count", model="tiny", version="1.0")
    failed = total(server, "shipway_front_responses_total", code_class="4xx")
    for _ in range(5):
        assert ask(server).status_code == 200
    httpx.post(f"{server.record.addresses.inference}/predictions/tiny", content=b"x")  # no token

    def counted(name: str, **labels: str) -> float:
        return total(server, name, **labels)

    until(lambda: counted("shipway_front_responses_total", code_class="4xx") == failed + 1)
    waited = counted("shipway_queue_mean_seconds_count", model="tiny", version="1.0")
    assert waited == before + 5


def test_nothing_that_a_client_sends_becomes_a_label(server):
    before = {
        tuple(sorted(each.labels.items()))
        for family in scrape(server, "/metrics/shipway").values()
        for each in family.samples
    }
    known_statuses = {"200", "400", "415"}
    for number in range(50):
        name = f"made-up-{number}"
        hostile = {
            "x-request-start": f"t={number}e{number}",
            "traceparent": name,
            "content-type": f"image/{name}",
            "x-request-id": name,
            "shipway-version": name,
            "user-agent": name,
        }
        ask(server, body=name.encode(), **hostile)
        httpx.post(f"{server.record.addresses.inference}/predictions/{name}", content=b"x")
    after = {
        tuple(sorted(each.labels.items()))
        for family in scrape(server, "/metrics/shipway").values()
        for each in family.samples
    }
    assert all(dict(each).get("status", "200") in known_statuses for each in after)
    assert len(after - before) <= 4
    assert not any("made-up" in value for each in after for _, value in each)


def test_an_exemplar_names_the_request_as_its_client_knows_it(server):
    traced = ask(server, traceparent=f"00-{TRACE_ID}-{SPAN_ID}-00")
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    text = httpx.get(f"{server.record.addresses.exporter}/metrics", headers=accept).text
    exemplars = [
        each.exemplar.labels
        for family in parse_openmetrics(text)
        for each in family.samples
        if each.exemplar
    ]
    assert {"request_id": traced.headers["x-request-id"], "trace_id": TRACE_ID} in exemplars


def test_a_traceparent_continues_into_a_span_for_each_stage(server, collector):
    sent = time.time()
    assert ask(server, traceparent=f"00-{TRACE_ID}-{SPAN_ID}-01").status_code == 200
    until(lambda: len(collector.spans) >= 5)
    (handled,) = [each for each in collector.spans if each.name == "handle tiny"]
    assert handled.trace_id.hex() == TRACE_ID and handled.parent_span_id.hex() == SPAN_ID
    stages = [each for each in collector.spans if each.parent_span_id == handled.span_id]
    every = {"queue", "decode", "preprocess", "inference", "postprocess"}
    assert {each.name for each in stages} == every < set(STAGES)
    for each in stages:
        assert each.trace_id.hex() == TRACE_ID
        assert handled.start_time_unix_nano <= each.start_time_unix_nano
        assert each.start_time_unix_nano <= each.end_time_unix_nano <= handled.end_time_unix_nano
    assert abs(handled.start_time_unix_nano / 1e9 - sent) < 5
    collector.spans.clear()
    assert ask(server, body=b"no", traceparent=f"00-{TRACE_ID}-{SPAN_ID}-01").status_code == 415
    until(lambda: any(each.name == "handle tiny" for each in collector.spans))
    (failed,) = [each for each in collector.spans if each.name == "handle tiny"]
    assert (failed.status.code, failed.status.message) == (Status.STATUS_CODE_ERROR, "NotAnImage")


@pytest.mark.parametrize("header", [{}, {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-00"}])
def test_a_request_outside_every_trace_leaves_no_span(server, collector, header):
    collector.spans.clear()
    ask(server, **header)
    ask(server, traceparent=f"00-{TRACE_ID}-{SPAN_ID}-01")  # the next one that does
    until(lambda: len(collector.spans) >= 5)
    assert sum(each.name == "handle tiny" for each in collector.spans) == 1


def test_a_killed_worker_is_counted_and_the_sums_go_on(server):
    ask(server)
    requests = total(server, "shipway_requests_total")
    starts = total(server, "shipway_worker_starts_total", version="1.0")
    (version,) = [each for each in server.management.describe("tiny") if each.version == "1.0"]
    os.kill(version.worker_pids[0], signal.SIGKILL)
    until(lambda: total(server, "shipway_worker_restarts_total", version="1.0") == 1, 40)
    until(lambda: total(server, "shipway_worker_starts_total", version="1.0") == starts + 1, 40)
    assert total(server, "shipway_worker_restarts_total", version="2.0") == 0
    assert ask(server).status_code == 200
    assert total(server, "shipway_requests_total") == requests + 1
    until(lambda: total(server, "shipway_workers", version="1.0", state="ready") == 2, 20)


def exporters_of(server: RunningServer) -> list[psutil.Process]:
    """The exporter and the process that keeps it, in the order in which they began."""
    found = []
    for each in server.processes():
        with suppress(psutil.NoSuchProcess):
            if "shipway.releases.exporter" in each.cmdline():
                found.append(each)
    return sorted(found, key=lambda each: each.create_time())


@pytest.mark.parametrize(
    ("killed", "name"), [(-1, "exporter"), (0, "exporter_keeper"), (0, "exporter")]
)
def test_the_exporter_and_what_keeps_it_are_replaced_and_counted(server, killed, name):
    def restarts() -> float:
        return total(server, "shipway_process_restarts_total", process=name)

    requests, before = total(server, "shipway_requests_total"), restarts()
    until(lambda: len(exporters_of(server)) == 2)
    exporters_of(server)[killed].kill()
    began = time.monotonic()
    until(lambda: answers(f"{server.record.addresses.exporter}/readyz"), 10)
    assert time.monotonic() - began < 2
    until(lambda: restarts() == before + 1)
    assert total(server, "shipway_requests_total") == requests


def answers(page: str) -> bool:
    try:
        return httpx.get(page, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_an_unregistered_version_keeps_its_counts_and_leaves_the_info(server):
    answered = total(server, "shipway_worker_starts_total", version="2.0")
    server.management.unregister("tiny", "2.0")
    until(lambda: total(server, "shipway_model_info", version="2.0") == 0)
    until(lambda: total(server, "shipway_workers", version="2.0") == 0)
    assert total(server, "shipway_worker_starts_total", version="2.0") == answered == 1


def test_without_an_address_there_is_no_exporter_and_nothing_is_recorded(tiny_artifact, tmp_path):
    store = tmp_path / "model_store"
    mar = pack(tiny_artifact, store)
    with running_server(tmp_path, model_store=store, exporter_address="") as server:
        server.management.register(
            mar.name,
            name="tiny",
            version="1.0",
            batch_size=8,
            max_batch_delay_ms=0,
            workers=1,
        )
        assert ask(server).status_code == 200
        assert server.record.addresses.exporter is None
        assert not list(os.scandir(server.record.metrics_directory))
        assert (
            sum("shipway.releases.exporter" in " ".join(e.cmdline()) for e in server.processes())
            == 0
        )


def test_the_exporter_ends_with_a_server_that_was_killed(tmp_path):
    with running_server(tmp_path) as server:
        exporters = exporters_of(server)
        assert httpx.get(f"{server.record.addresses.exporter}/metrics").is_success
        os.kill(server.record.pid, signal.SIGKILL)
        _, running = psutil.wait_procs(exporters, timeout=10)
        assert len(exporters) == 2 and running == []
