"""What clients make up leaves nothing behind in any process: names, versions, keys, headers,
shapes, ten thousand of each, over HTTP and gRPC."""

import http.client
import itertools
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import tritonclient.grpc as triton

from shipway.archive.pack import pack
from shipway.artifact.bundle import Artifact
from shipway.engines.torchserve.tokens import bearer
from shipway.front.keys import KEY_LENGTH, KEY_PREFIX
from tests.end_to_end.test_front_keys import ROW, add, follows
from tests.servers import RunningServer, running_server, until

MODEL = "tiny-table"
COUNT = 10_000
WARM = 2_000
CLIENTS = 4
MOST_GROWTH_BYTES = 4_000_000
"""Of one process, for COUNT requests that differ: 400 bytes each."""

Made = tuple[str, dict[str, str], object]
"""Path, headers, and the JSON of a request."""


@pytest.fixture(scope="module")
def server(
    tiny_table: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("growth")
    (folder / "model_store").mkdir()
    mar = pack(tiny_table, folder / "model_store")
    with running_server(folder, front="on") as running:
        running.management.register(
            mar.name, name=MODEL, version="1.0", batch_size=8, max_batch_delay_ms=0, workers=1
        )
        follows(running, add(running, "app"), 200)  # keys are looked for only where there are some
        until(lambda: any("shipway_default_version" in each for each in series(running)), 60)
        yield running


def unknown_models(number: int) -> Made:
    paths = (
        f"/predictions/made-up-{number}",
        f"/predictions/{MODEL}/9.{number}",
        f"/v2/models/made-up-{number}/infer",
        f"/v1/models/{MODEL}/versions/9.{number}:predict",
        f"/made/up/{number}",
    )
    return paths[number % len(paths)], {}, ROW


def wrong_keys(number: int) -> Made:
    made_up = f"{KEY_PREFIX}{number}".ljust(KEY_LENGTH, "x")
    token = made_up if number % 2 else f"made-up-{number}"
    return f"/predictions/{MODEL}", {"authorization": f"Bearer {token}"}, ROW


def headers(number: int) -> Made:
    made_up = f"made-up-{number}"
    names = [
        "x-request-id",
        "origin",
        "traceparent",
        "user-agent",
        "content-type",
        "accept",
        "referer",
        "cookie",
        "x-forwarded-for",
        "x-request-start",
        "shipway-version",
        "accept-language",
    ]
    return (
        f"/predictions/{MODEL}?{made_up}={made_up}",
        {f"x-{made_up}": made_up} | dict.fromkeys(names, made_up),
        ROW,
    )


def fields(number: int) -> Made:
    return f"/predictions/{MODEL}", {}, {f"made-up-{number}": ROW}


def tensors(number: int) -> Made:
    rows = 1 + number % 64
    made_up = f"made-up-{number}"
    right = number % 2 == 0
    inputs = {
        "name": "input" if right else made_up,
        "datatype": "FP32" if number % 3 else made_up,
        "shape": [rows, len(ROW)] if number % 5 else [number, len(ROW)],
        "data": ROW * rows,
    }
    asked = {"id": made_up, "inputs": [inputs], "outputs": [{"name": made_up}]}
    return f"/v2/models/{MODEL}/infer", {}, asked


def send(server: RunningServer, make: Callable[[int], Made], numbers: range) -> set[int]:
    """The statuses of requests that are sent by several clients."""
    at = urlsplit(server.record.addresses.inference)
    token = bearer(server.tokens.get("inference"))

    def client(own: Iterator[int]) -> set[int]:
        assert at.hostname
        with closing(http.client.HTTPConnection(at.hostname, at.port, timeout=60)) as connection:
            found = set()
            for number in own:
                path, made, body = make(number)
                sent = token | {"content-type": "application/json"} | made
                connection.request("POST", path, json.dumps(body), sent)
                answer = connection.getresponse()
                answer.read()
                found.add(answer.status)
            return found

    shares = [itertools.islice(numbers, first, None, CLIENTS) for first in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        return set[int]().union(*pool.map(client, shares))


def send_calls(server: RunningServer, _: object, numbers: range) -> set[int]:
    """gRPC calls for models that nobody has."""
    address = server.record.addresses.grpc_inference
    token = bearer(server.tokens.get("inference"))
    with closing(triton.InferenceServerClient(address)) as client:
        for number in numbers:
            made_up = f"made-up-{number}"
            try:
                client.is_model_ready(made_up, headers=token | {f"x-{made_up}": made_up})
            except triton.InferenceServerException as error:
                assert "NOT_FOUND" in str(error.status()), error
    return {404}


def own_memory(server: RunningServer) -> dict[str, int]:
    """Bytes that each process shares with no other, by its number and name; without Java, whose
    heap grows until it is collected."""
    return {
        f"{each.pid} {each.name()} {' '.join(each.cmdline()[1:4])}": each.memory_full_info().uss
        for each in server.processes()
        if each.name() != "java"
    }


def series(server: RunningServer) -> set[str]:
    """The names and labels of metrics: the exporter's, and TorchServe's own."""
    addresses = server.record.addresses
    pages = [
        httpx.get(f"{each}/metrics", trust_env=False).text
        for each in (addresses.exporter, addresses.metrics)
    ]
    lines = [line for page in pages for line in page.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0] for line in lines}


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (unknown_models, {404, 501}),  # TensorFlow Serving's path of a version is 501
        (wrong_keys, {401}),
        (headers, {400, 415}),
        (fields, {400}),
        (tensors, {400}),
        (None, {404}),
    ],
    ids=["models", "keys", "headers", "fields", "tensors", "grpc"],
)
def test_ten_thousand_that_differ_leave_nothing_behind(server, make, expected):
    sending = send_calls if make is None else send
    sending(server, make, range(WARM))
    before, lines = own_memory(server), series(server)
    assert sending(server, make, range(WARM, WARM + COUNT)) <= expected
    new = series(server) - lines
    assert not new, new
    after = own_memory(server)
    assert set(after) == set(before)
    grown = {each: after[each] - before[each] for each in before}
    assert max(grown.values()) < MOST_GROWTH_BYTES, grown


def test_after_all_that_an_ordinary_request_is_answered(server):
    assert psutil.pid_exists(server.record.pid)
    token = bearer(server.tokens.get("inference"))
    url = f"{server.record.addresses.inference}/predictions/{MODEL}"
    assert httpx.post(url, json=ROW, headers=token, trust_env=False).status_code == 200
