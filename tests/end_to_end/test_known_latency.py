"""A model whose latency is known: what the exporter and the load tests say of it, and what it was.

One worker takes one request at a time, for exponential times of 40 ms on average, and once, in the
middle, for two seconds. It writes down how long each took, its run included.
"""

import json
import math
from bisect import bisect_left

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.variants import with_code
from shipway.archive.pack import pack
from shipway.engines.torchserve.temporary import registered, temporary_server
from shipway.loadtest import preflight
from shipway.loadtest.load_test import LoadTest
from shipway.loadtest.runner import measure
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.shapes.open import OpenLoop
from shipway.metrics.declared import REQUEST, SECONDS
from shipway.releases.exporter_process import exporter_command

pytestmark = pytest.mark.long

MEAN_S, STALL_S, STALLS_AFTER = 0.040, 2.0, 60
SECONDS_OF_LOAD = 18.0
RATE = 5.0
"""A fifth of what it could answer at best: its queue is short but for the stall."""
KNOWN_LATENCY = f"""
import json as _json
import os as _os
import random as _random
import time as _time

from shipway.runtime.model import Model as _Runtime

_chance = _random.Random(7)
_run = _Runtime.run
_truth = open(_os.environ["TRUTH"], "a")
_answered = 0


def _slow(self, rows):
    global _answered
    _answered += 1
    took_s = {STALL_S} if _answered == {STALLS_AFTER} else _chance.expovariate(1 / {MEAN_S})
    start = _time.perf_counter()
    _time.sleep(took_s)
    found = _run(self, rows)
    print(_json.dumps(_time.perf_counter() - start), file=_truth, flush=True)
    return found


_Runtime.run = _slow
"""


@pytest.fixture
def slow(tiny_artifact, tmp_path, monkeypatch):
    """A server with that model, what it takes to load it, and how long its requests took."""
    truth = tmp_path / "truth"
    monkeypatch.setenv("TRUTH", str(truth))
    mar = with_code(
        pack(tiny_artifact, tmp_path),
        tmp_path / "store" / f"{tiny_artifact.manifest.name}-1.0.mar",
        KNOWN_LATENCY,
    )
    with (
        temporary_server(tmp_path, mar.parent, exporter_command=exporter_command) as state,
        registered(state, mar, workers=1, batch_size=1) as served,
    ):
        ready = preflight.local_model(
            state, tiny_artifact.manifest.name, None, grpc=False, headers={}
        )
        asked_before = len(truth.read_text().splitlines())

        def load(load: OpenLoop | ClosedLoop) -> tuple:
            plan = LoadTest(
                target=ready.target,
                headers=dict(ready.headers),
                inputs=ready.inputs,
                load=load,
                warm_up_s=0,
                seconds=SECONDS_OF_LOAD,
            )
            result = measure(plan)
            took_s = [json.loads(line) for line in truth.read_text().splitlines()]
            return result, took_s[asked_before:]

        yield load, served


def percentile(values, share: float) -> float:
    return sorted(values)[math.ceil(share * len(values)) - 1]


def bucket(seconds: float) -> int:
    """The place of the bucket of REQUEST that a latency falls into."""
    return bisect_left(SECONDS, seconds)


def waited_and_served(arrivals, took_s) -> list[float]:
    """Lindley's recursion: one server, one queue, first come, first served."""
    free, latencies = 0.0, []
    for arrival, each in zip(arrivals, took_s, strict=True):
        free = max(free, arrival) + each
        latencies.append(free - arrival)
    return latencies


def exported_bucket(served, share: float) -> int:
    """The bucket that a percentile lies in, as Prometheus would find it."""
    text = httpx.get(f"{served.exporter}/metrics", trust_env=False).text
    counts = {
        float(sample.labels["le"]): sample.value
        for family in text_string_to_metric_families(text)
        if family.name == REQUEST.name
        for sample in family.samples
        if "le" in sample.labels
    }
    bounds = sorted(counts)
    return next(i for i, le in enumerate(bounds) if counts[le] >= share * counts[math.inf])


@pytest.mark.timing
def test_an_open_loop_and_the_exporter_tell_the_truth(slow):
    load, served = slow
    result, took_s = load(OpenLoop(rate=RATE, seed=3))
    assert max(took_s) >= STALL_S and not result.errors
    arrivals = list(result.load.arrivals(0.0, SECONDS_OF_LOAD))
    assert len(arrivals) == len(took_s) == result.answered
    truth = waited_and_served(arrivals, took_s)
    for share, reported_ms in (
        (0.5, result.latency.p50_ms),
        (0.9, result.latency.p90_ms),
        (0.99, result.latency.p99_ms),
    ):
        print(
            f"p{share * 100:g}: truth {1000 * percentile(truth, share):.0f} ms, open loop", end=""
        )
        print(f" {reported_ms:.0f} ms")
        assert abs(bucket(percentile(truth, share)) - bucket(reported_ms / 1000)) <= 1
        # With the front a request's time in the worker has the wait in it, which clients see too.
        assert abs(bucket(percentile(truth, share)) - exported_bucket(served, share)) <= 1


def test_a_closed_loop_hides_that_everybody_else_would_have_waited(slow):
    load, _ = slow
    result, took_s = load(ClosedLoop(clients=1))
    assert max(took_s) >= STALL_S and not result.errors
    # It is right about each request that it sent, and sent none while the server stood still.
    assert abs(bucket(percentile(took_s, 0.99)) - bucket(result.latency.p99_ms / 1000)) <= 1
    share_of_time = STALL_S / SECONDS_OF_LOAD
    assert share_of_time > 0.1
    assert result.latency.p99_ms < 1000 * STALL_S / 5
    print(f"the server stood still for {share_of_time:.0%} of the time; a closed loop says p99")
    print(f"{result.latency.p99_ms:.0f} ms")
