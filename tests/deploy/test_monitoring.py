"""A real Prometheus, configured by deploy/, scrapes the real exporter of a real server."""

import os
import shutil
import signal
import subprocess
import time

import httpx
import numpy as np
import pytest

from benchmarks.monitoring import (
    KILLED_WORKER,
    NEEDS_GPU,
    dashboard_queries,
    scraping,
    seconds_until_firing,
    traffic,
)
from shipway.archive.pack import pack
from shipway.engines.torchserve.tokens import bearer
from tests.conftest import encoded, retold
from tests.servers import running_server, until

SETTLES_S = 12.0
"""Scrapes enough for a rate, and the exporter's own look at the server."""
OVER = "10s"


@pytest.fixture(scope="module")
def server(tiny_artifact, tmp_path_factory):
    """Versions 1.0, the default, and 2.0."""
    folder = tmp_path_factory.mktemp("watched")
    second = retold(tiny_artifact, folder / "second", version="2.0")
    with running_server(folder) as running:
        for artifact in (tiny_artifact, second):
            mar = pack(artifact, running.model_store)
            running.management.register(
                mar.name,
                name="tiny",
                version=artifact.manifest.version,
                batch_size=4,
                max_batch_delay_ms=0,
                workers=1,
            )
        yield running


@pytest.fixture(scope="module")
def prometheus(tools, server, tmp_path_factory):
    """Scrapes once a second, under load for as long as it runs."""
    photo = encoded(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    ask = f"{server.record.addresses.inference}/predictions/tiny"
    headers = bearer(server.tokens.get("inference"))
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        scraping(server.record.addresses.exporter, folder, interval="1s") as running,
        traffic([ask, f"{ask}/1.0", f"{ask}/2.0"], [photo], headers),
    ):
        time.sleep(SETTLES_S)
        yield running


def test_every_query_of_the_dashboard_returns_numbers(prometheus):
    empty = {
        name: expr
        for name, expr in dashboard_queries(over=OVER).items()
        if not prometheus.query(expr)
    }
    has_gpu = shutil.which("nvidia-smi") is not None
    assert not {name for name, expr in empty.items() if has_gpu or NEEDS_GPU not in expr}


def test_the_dashboard_offers_every_model_and_version(prometheus):
    match = {"match[]": "shipway_model_info"}
    assert prometheus.get("/label/model/values", **match) == ["tiny"]
    assert prometheus.get("/label/version/values", **match) == ["1.0", "2.0"]


def test_the_latency_panels_have_exemplars(prometheus):
    now = time.time()
    found = prometheus.get(
        "/query_exemplars", query="shipway_request_seconds_bucket", start=now - 60, end=now
    )
    assert {
        len(exemplar["labels"]["request_id"]) for each in found for exemplar in each["exemplars"]
    } == {36}


def test_the_recorded_failures_agree_with_what_was_sent(prometheus):
    """Broken requests are answered 415, which is the sender's failure and none of ours."""
    assert prometheus.query("shipway:failed_requests:ratio_rate5m") == {
        '{"__name__": "shipway:failed_requests:ratio_rate5m"}': 0.0
    }
    [errors] = prometheus.query('sum(shipway_errors_total{status="415"})').values()
    [requests] = prometheus.query("sum(shipway_requests_total)").values()
    assert errors / requests == pytest.approx(0.1, abs=0.05)


def test_promtool_finds_nothing_wrong_with_the_projects_own_metrics(prometheus, tools, server):
    metrics = httpx.get(f"{server.record.addresses.exporter}/metrics/shipway", trust_env=False)
    done = subprocess.run(
        [tools / "promtool", "check", "metrics"],
        input=metrics.text,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_killed_worker_fires_its_alert_and_no_other(prometheus, server):
    assert {rule["health"] for rule in prometheus.rules()} == {"ok"}
    assert not prometheus.firing()
    [version] = [one for one in server.management.describe("tiny") if one.version == "2.0"]
    os.kill(version.worker_pids[0], signal.SIGKILL)
    seconds_until_firing(prometheus, KILLED_WORKER)
    fired = prometheus.firing()
    assert fired.keys() == {KILLED_WORKER}
    assert fired[KILLED_WORKER]["labels"]["version"] == "2.0"
    summary = fired[KILLED_WORKER]["annotations"]["summary"]
    assert summary == "A worker of tiny 2.0 died and came back"
    until(lambda: prometheus.query('shipway_workers{state="ready", version="2.0"} == 1'))
    assert prometheus.firing().keys() == {KILLED_WORKER}


def test_requests_that_reach_no_handler_are_counted_as_failed(prometheus, server):
    def failed(where: str) -> float:
        [rate] = prometheus.query(f"shipway:failed_{where}_handler:rate5m").values()
        return rate

    before = failed("before")  # the killed worker's
    httpx.put(
        f"{server.record.addresses.management}/models/tiny/2.0",
        params={"min_worker": 0},
        headers=bearer(server.tokens.get("management")),
        trust_env=False,
    ).raise_for_status()
    until(lambda: failed("before") > before + 0.02)  # 6 requests in 5 minutes
    assert failed("in") == 0
