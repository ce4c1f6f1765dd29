"""Twice what a worker can do: what is answered in time, with deadlines and without. Requests pass
through TorchServe, unless said."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import numpy as np
import psutil
import pytest
from hdrh.histogram import HdrHistogram

from shipway.archive.pack import pack
from shipway.engines.errors import PredictionFailed
from shipway.engines.torchserve import protos
from shipway.engines.torchserve.inference import Predictor
from shipway.engines.torchserve.tokens import bearer
from shipway.front.exchange import FOLDER, Exchange
from shipway.front.routes import GRPC_HEALTH
from shipway.loadtest.load_test import Input, LoadTest, Target
from shipway.loadtest.result import Result
from shipway.loadtest.runner import measure
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.shapes.open import OpenLoop
from shipway.serving.deadlines import SENT, WITHIN
from tests.fuzz import minimal
from tests.servers import REPOSITORY, RunningServer, running_server, until

QUEUE = 50
SECONDS = 4.0
# Many rows through a model that takes four at once: some 10 ms, nearly all of it inference.
BODY = json.dumps({"x": np.ones((512, 3)).tolist()}).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[RunningServer]:
    with overloaded(tmp_path_factory.mktemp("overload"), front="off") as running:
        yield running


@pytest.fixture(scope="module")
def fronted(tmp_path_factory) -> Iterator[RunningServer]:
    with overloaded(tmp_path_factory.mktemp("fronted"), front="on") as running:
        until(lambda: ("tensors", "1.0") in Exchange(front_folder(running)).read_served().versions)
        yield running


def front_folder(server: RunningServer) -> Path:
    return Path(server.record.launch) / FOLDER


@contextmanager
def overloaded(folder: Path, *, front: str) -> Iterator[RunningServer]:
    mar = pack(minimal.tensors(folder / "artifact"), folder / "model_store")
    with running_server(folder, job_queue_size=QUEUE, front=front) as running:
        running.management.register(
            mar.name, name="tensors", version="1.0", batch_size=2, max_batch_delay_ms=0, workers=1
        )
        yield running


def load(server: RunningServer, load: ClosedLoop | OpenLoop, **headers: str) -> Result:
    return measure(
        LoadTest(
            target=Target(url=f"{server.record.addresses.inference}/predictions/tensors"),
            headers=bearer(server.tokens.get("inference")) | headers,
            inputs=(Input(name="", content_type="application/json", body=BODY),),
            load=load,
            warm_up_s=1.5,
            seconds=SECONDS,
        )
    )


def in_time(result: Result, within_ms: float) -> float:
    """Answers a second that came within so long of when they were to be asked for."""
    if result.latency is None:
        return 0.0
    counts = HdrHistogram.decode(result.latency.histogram).get_recorded_iterator()
    good = (
        each.count_at_value_iterated_to
        for each in counts
        if each.value_iterated_to <= 1000 * within_ms
    )
    return sum(good) / SECONDS


@pytest.mark.long
def test_under_twice_the_load_deadlines_keep_what_is_answered_in_time_near_the_capacity(server):
    capacity = load(server, ClosedLoop(clients=4)).rate
    twice = OpenLoop(rate=2 * capacity)
    within_ms = 0.4 * 1000 * QUEUE / capacity  # a full queue takes longer than twice that
    without = load(server, twice)
    with_deadlines = load(server, twice, **{WITHIN: f"{within_ms:.0f}"})
    print(f"capacity {capacity:.0f} a second, {within_ms:.0f} ms allowed, asked twice as much:")
    for name, result in (("without", without), ("with", with_deadlines)):
        errors = ", ".join(f"{each.count} × {each}" for each in result.errors)
        print(f"{name} deadlines {in_time(result, within_ms):.0f} a second in time; {errors}")
    assert {str(each) for each in without.errors} == {"http 503 ServiceUnavailableException"}
    assert str(with_deadlines.errors[0]) == "http 504 DeadlinePassed"  # what most were refused with
    assert in_time(without, within_ms) < 0.2 * capacity
    assert in_time(with_deadlines, within_ms) > 0.6 * capacity


def test_over_grpc_a_deadline_is_kept_too_and_its_refusals_are_counted_by_kind(server):
    stubs = protos.load()
    fields = {"body": BODY, WITHIN: b"500", SENT: f"t={time.time() - 1:.3f}".encode()}
    request = stubs.inference_pb2.PredictionsRequest(model_name="tensors", input=fields)
    with grpc.insecure_channel(server.record.addresses.grpc_inference) as channel:
        service = stubs.inference_pb2_grpc.InferenceAPIsServiceStub(channel)
        token = tuple(bearer(server.tokens.get("inference")).items())
        reply = service.Predictions(request, metadata=token)
    error = json.loads(reply.prediction)
    assert (error["code"], error["type"]) == (504, "DeadlinePassed")
    page = httpx.get(f"{server.record.addresses.exporter}/metrics/shipway", trust_env=False).text
    assert 'kind="DeadlinePassed"' in page


def asking(predictor: Predictor) -> Callable[[int], PredictionFailed | None]:
    """Sends a request; returns why it was refused."""

    def ask(_: int) -> PredictionFailed | None:
        try:
            predictor.predict("tensors", BODY)
        except PredictionFailed as error:
            return error
        return None

    return ask


@pytest.mark.parametrize("over", ["inference", "grpc"])
def test_who_finds_the_queue_full_is_told_so_at_once(server, over):
    ask = asking(getattr(server, over))
    [version] = server.management.describe("tensors")
    worker = psutil.Process(version.worker_pids[0])
    with ThreadPoolExecutor(QUEUE + 40) as pool:
        worker.suspend()  # so that it takes no requests meanwhile, however slow the clients are
        try:
            asked = [pool.submit(ask, number) for number in range(QUEUE + 40)]
            until(lambda: any(each.done() for each in asked))
        finally:
            worker.resume()
        refused = [each for each in (each.result() for each in asked) if each]
    assert refused and {(each.code, each.type) for each in refused} == {(503, "QueueFull")}
    assert f"queue of tensors 1.0 is full: {QUEUE} requests may wait" in str(refused[0])


@pytest.mark.parametrize("over", ["inference", "grpc"])
def test_the_front_tells_who_finds_the_queue_full_too(fronted, over):
    ask = asking(getattr(fronted, over))
    # More than wait and run, all of which are there before the first is answered.
    with ThreadPoolExecutor(3 * QUEUE) as pool:
        refused = [each for each in pool.map(ask, range(9 * QUEUE)) if each]
    assert refused and {(each.code, each.type) for each in refused} == {(503, "QueueFull")}
    assert f"queue of tensors 1.0 is full: {QUEUE} requests may wait" in str(refused[0])


def test_torchserves_own_words_are_those_of_the_documentation(server):
    """Which proxies and clients of others have to deal with."""
    page = " ".join((REPOSITORY / "docs" / "overload.md").read_text().split())
    token = bearer(server.tokens.get("inference"))
    url = f"{server.record.addresses.inference}/predictions/tensors"
    with scaled_to_none(server):
        answer = httpx.post(url, content=BODY, headers=token, trust_env=False)
        for over in (server.inference, server.grpc):
            with pytest.raises(
                PredictionFailed, match="has no workers, because it was scaled to 0"
            ):
                over.predict("tensors", BODY)
    assert answer.status_code == 503
    assert answer.headers["connection"] == "close" and "retry-after" not in answer.headers
    assert answer.json()["type"] == "ServiceUnavailableException"
    assert json.dumps(answer.json()["message"]).replace("tensors", "NAME") in page


def test_a_server_whose_every_model_is_scaled_to_none_is_not_healthy(fronted):
    headers = bearer(fronted.tokens.get("inference"))
    metadata = tuple((name.lower(), value) for name, value in headers.items())

    def http_says(path: str) -> int:
        address = fronted.record.addresses.inference
        return httpx.get(f"{address}{path}", headers=headers, trust_env=False).status_code

    with grpc.insecure_channel(fronted.record.addresses.grpc_inference) as channel:

        def grpc_says(call: str) -> grpc.StatusCode:
            try:
                channel.unary_unary(call)(b"", metadata=metadata, timeout=10)
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        with scaled_to_none(fronted):
            until(lambda: http_says("/ping") == 503)
            assert http_says("/v2/health/ready") == 503 and http_says("/v2/health/live") == 200
            for call in GRPC_HEALTH:
                assert grpc_says(call) == grpc.StatusCode.UNAVAILABLE, call
        until(lambda: http_says("/ping") == 200)
        assert http_says("/v2/health/ready") == 200
        assert {grpc_says(call) for call in GRPC_HEALTH} == {grpc.StatusCode.OK}


@contextmanager
def scaled_to_none(server: RunningServer) -> Iterator[None]:
    def scale(workers: int) -> None:
        httpx.put(
            f"{server.record.addresses.management}/models/tensors",
            params={"min_worker": workers, "max_worker": workers, "synchronous": "true"},
            headers=bearer(server.tokens.get("management")),
            timeout=60,
            trust_env=False,
        ).raise_for_status()

    scale(0)
    try:
        yield
    finally:
        scale(1)
