"""Metrics as a worker records them and as the exporter reads them, across real processes."""

import json
import os
import runpy
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry

from shipway.engines.ports import free_ports
from shipway.metrics.declared import (
    DIRECTORY_VARIABLE,
    METRICS,
    READ,
    RECORDED,
    REQUEST,
    SECONDS,
    STAGE,
    STAGES,
)
from shipway.metrics.exporter import WorkersCollector, serve
from shipway.metrics.files import GAUGES, GAUGES_BYTES, SUMMED
from shipway.metrics.recorder import _Values
from shipway.metrics.traces import Parent, parse_traceparent
from tests.conftest import REPOSITORY

WORKER = """
import json, os, sys
from pathlib import Path
from shipway.artifact.bundle import open_artifact
from shipway.metrics.observed import AnsweredRequest
from shipway.metrics.recorder import Recorder
from shipway.runtime.model import Batch, Model
from shipway.serving.observing import served_program

model = Model(open_artifact(Path(sys.argv[1])))
recorder = Recorder(served_program(model), Path(os.environ[sys.argv[2]]))
for requests in map(json.loads, sys.stdin):
    batch = Batch(rows=len(requests), size=4, length=0, padding=1 - len(requests) / 4,
                  preprocess_ms=0.1, host_to_device_ms=0, inference_ms=1)
    recorder.observe([
        AnsweredRequest(id=f"request-{each['ms']}", traceparent=each.get("traceparent", ""),
                        received=0, status=each.get("status", 200), error=each.get("error"),
                        rows=1, bytes_in=10, bytes_out=20,
                        stages_ms=dict.fromkeys(each.get("stages", ["inference"]), 1.0)
                        | {"total": each["ms"]},
                        batches=[] if "error" in each else [batch])
        for each in requests
    ])
    print("recorded", flush=True)
"""
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Worker:
    """A process that records what it is told."""

    def __init__(self, artifact, directory: Path) -> None:
        self._process: Any = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(artifact.path), DIRECTORY_VARIABLE],
            cwd=REPOSITORY,
            env=os.environ | {DIRECTORY_VARIABLE: str(directory)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def record(self, *requests: dict) -> None:
        print(json.dumps(requests), file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "recorded\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


@pytest.fixture(scope="module")
def exported(tiny_artifact, tmp_path_factory):
    """What is exported of two workers, one of which was killed, and of a third in its place."""
    directory = tmp_path_factory.mktemp("metrics")
    first, second = Worker(tiny_artifact, directory), Worker(tiny_artifact, directory)
    first.record({"ms": 12.0}, {"ms": 12.5}, {"ms": 900.0, "traceparent": TRACE})
    second.record({"ms": 12.9})
    first.kill()
    third = Worker(tiny_artifact, directory)
    third.record({"ms": 20000.0, "error": "BadImage", "status": 400})
    collected = {family.name: family for family in WorkersCollector(directory).collect()}
    second.kill()
    third.kill()
    return collected, directory


def sample(families, name: str, **labels: str) -> float:
    """The one sample of that name with these labels, whatever others it has."""
    [found] = [
        each.value
        for family in families.values()
        for each in family.samples
        if each.name == name and labels.items() <= each.labels.items()
    ]
    return found


def test_a_workers_files_need_no_more_room_than_was_taken_for_them(tiny_artifact, tmp_path):
    worker = Worker(tiny_artifact, tmp_path)
    failed = [{"ms": 1.0, "error": f"Kind{each}", "status": 400 + each} for each in range(20)]
    worker.record({"ms": 1.0, "stages": STAGES}, *failed)
    sizes = {each.name.rpartition("_")[0]: each.stat() for each in tmp_path.glob("*.db")}
    worker.kill()
    assert {kind: found.st_size for kind, found in sizes.items()} == {
        **SUMMED,
        GAUGES: GAUGES_BYTES,
    }
    assert all(found.st_blocks * 512 >= found.st_size for found in sizes.values())


def test_numbers_of_a_killed_worker_stay_in_the_sums(exported):
    families, _ = exported
    assert sample(families, "shipway_request_seconds_count") == 5
    assert sample(families, "shipway_request_seconds_bucket", le="0.015") == 3
    assert sample(families, "shipway_requests_total", status="200") == 4
    assert sample(families, "shipway_errors_total", kind="BadImage", status="400") == 1
    assert sample(families, "shipway_rows_total") == 4
    assert sample(families, "shipway_request_bytes_total") == 50
    assert sample(families, "shipway_response_bytes_total") == 100
    assert sample(families, "shipway_worker_starts_total") == 3


def test_a_run_counts_once_however_many_requests_it_had(exported):
    families, _ = exported
    assert sample(families, "shipway_batch_rows_count") == 2
    assert sample(families, "shipway_batch_rows_sum") == 4
    assert sample(families, "shipway_padding_ratio_sum") == pytest.approx(0.25 + 0.75)


def test_a_stage_that_never_happened_has_no_series(exported):
    families, _ = exported
    stages = {each.labels["stage"] for each in families[STAGE.name].samples}
    assert stages == {"inference"}


def test_each_bucket_has_the_last_request_that_fell_into_it(exported):
    families, _ = exported
    exemplars = {
        each.labels["le"]: each.exemplar
        for each in families[REQUEST.name].samples
        if each.name.endswith("_bucket") and each.exemplar
    }
    assert set(exemplars) == {"0.015", "1.0", "+Inf"}
    assert exemplars["0.015"].labels == {"request_id": "request-12.9"}
    assert exemplars["1.0"].labels == {"request_id": "request-900.0", "trace_id": TRACE[3:35]}
    assert exemplars["1.0"].value == 0.9


def test_what_the_dead_served_is_not_shown_as_served(exported):
    _, directory = exported
    gone = {family.name: family for family in WorkersCollector(directory).collect()}
    assert "shipway_model_info" in exported[0]
    assert "shipway_model_info" not in gone
    assert sample(gone, "shipway_request_seconds_count") == 5


class Foreign(Collector):
    def collect(self):
        yield GaugeMetricFamily("QueueTime", "Somebody else's.", 7)


def test_the_pages_of_an_exporter(exported):
    _, directory = exported
    (port,) = free_ports(1)
    missing: list[str | None] = ["the workers of cat"]
    server = serve(
        "127.0.0.1",
        port,
        own=[WorkersCollector(directory)],
        passed_on=[Foreign()],
        missing=lambda: missing[0],
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            everything, own = client.get("/metrics").text, client.get("/metrics/shipway").text
            accept = {"accept": "application/openmetrics-text; version=1.0.0"}
            strict = list(
                text_string_to_metric_families(client.get("/metrics", headers=accept).text)
            )
            assert client.get("/metric").status_code == 404
            assert client.post("/metrics").status_code == 405
            not_ready = client.get("/readyz")
            assert (not_ready.status_code, not_ready.text) == (503, "the workers of cat\n")
            missing[0] = None
            assert client.get("/readyz").status_code == 200
    finally:
        server.shutdown()
        server.server_close()
    assert "QueueTime 7.0" in everything and "QueueTime" not in own
    assert "shipway_request_seconds_count" in own
    [request] = [each for each in strict if each.name == REQUEST.name]
    assert any(each.exemplar for each in request.samples)


@pytest.mark.parametrize(
    ("value", "parent"),
    [
        (TRACE, Parent(TRACE[3:35], TRACE[36:52], True)),
        (TRACE[:-2] + "00", Parent(TRACE[3:35], TRACE[36:52], False)),
        ("cc" + TRACE[2:] + "-what-comes-later", Parent(TRACE[3:35], TRACE[36:52], True)),
        ("ff" + TRACE[2:], None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01", None),
        (TRACE.upper(), None),
        (TRACE + "0", None),
        (TRACE[:40], None),
        ("x" * 100_000, None),
        ("", None),
    ],
)
def test_a_traceparent_is_read_as_its_standard_says(value, parent):
    assert parse_traceparent(value) == parent


def test_metrics_are_named_as_prometheus_asks():
    assert len({each.name for each in METRICS}) == len(METRICS)
    for each in METRICS:
        assert each.name.startswith("shipway_")
        assert each.name.endswith("_total") == (each.kind == "counter")
        assert bool(each.buckets) == (each.kind == "histogram")
        assert list(each.buckets) == sorted(set(each.buckets))
        assert each.help.endswith(".")
    assert {"le", "quantile"}.isdisjoint(label for each in METRICS for label in each.labels)


def test_buckets_tell_a_millisecond_from_two_and_ten_seconds_from_five():
    assert SECONDS[0] < 0.001 and SECONDS[-1] == 10
    inside = [each for each in SECONDS if 0.001 <= each <= 1]
    assert max(high / low for low, high in pairwise(inside)) <= 1.5


def test_the_page_about_metrics_is_what_the_declarations_say():
    page = runpy.run_path(str(REPOSITORY / "scripts" / "document_metrics.py"))["text"]()
    assert (REPOSITORY / "docs" / "metrics.md").read_text() == page
    for each in (*RECORDED, *READ):
        assert f"| `{each.name}` |" in page
    assert set(STAGES) <= set(page.replace(":", " ").replace("`", " ").split())


def test_a_batchs_values_are_counted_as_one_by_one():
    values = [0.0, 0.0001, 0.00011, 0.003, 0.003, 5.0, 99.0]
    kept = [CollectorRegistry(), CollectorRegistry()]
    together, apart = (
        Histogram("seconds", "of requests", buckets=SECONDS, registry=each) for each in kept
    )
    _Values(together).add(values)
    _Values(together).add([])
    for value in values:
        apart.observe(value)

    def samples(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
        [family] = registry.collect()
        return {
            (each.name, each.labels.get("le", "")): each.value
            for each in family.samples
            if not each.name.endswith("_created")
        }

    assert samples(kept[0]) == samples(kept[1])
    assert samples(kept[0])["seconds_count", ""] == len(values)


def test_a_histogram_of_others_observes_each_value():
    class Other:
        def __init__(self) -> None:
            self.seen: list[float] = []

        def observe(self, value: float) -> None:
            self.seen.append(value)

    other = Other()
    _Values(other).add([1.0, 2.0])
    assert other.seen == [1.0, 2.0]
