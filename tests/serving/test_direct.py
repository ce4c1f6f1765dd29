"""A worker's own HTTP, over its unix socket, with a real model."""

import errno
import gzip
import json
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from shipway.processes import began
from shipway.runtime.model import Model
from shipway.serving.direct import DirectServer
from shipway.serving.direct_config import DirectConfig
from shipway.serving.oip_grpc import calls
from shipway.serving.progress import read_progress
from shipway.serving.service import Service
from tests.conftest import encoded
from tests.servers import until

LIMIT = 1_000_000


def served(artifact, folder: Path) -> DirectServer:
    """A server whose thread ends with the test process."""
    folder.mkdir()
    config = DirectConfig(folder=folder, most_waiting=100, max_body_bytes=LIMIT, answer_within_s=60)
    again = DirectConfig.from_json(config.to_json())
    assert again == config
    model = Model(artifact, staged=False)
    service = Service(model)
    made = DirectServer(
        service,
        again,
        name=artifact.manifest.name,
        starter=os.getpid(),
        batch_size=4,
        readers=2,
        answer_within_s=60,
        calls=calls(service.describe()["metadata"]),
        lost=lambda error: None,
    )
    made.start()
    return made


def client_of(made: DirectServer) -> httpx.Client:
    return httpx.Client(
        transport=httpx.HTTPTransport(uds=str(made.socket)), base_url="http://worker"
    )


@pytest.fixture(scope="module")
def table(tiny_table, tmp_path_factory):
    return served(tiny_table, tmp_path_factory.mktemp("direct") / "workers")


@pytest.fixture
def client(table):
    with client_of(table) as opened:
        yield opened


ROW = [0.1, 0.2, 0.3, 0.4, 0.5]


def test_it_listens_on_a_private_socket_and_announces_itself(table, tiny_table):
    assert stat.S_IMODE(table.socket.stat().st_mode) == 0o600
    said = json.loads(table.socket.with_suffix(".json").read_bytes())
    assert said == {
        "pid": os.getpid(),
        "began": began(os.getpid()),
        "starter": os.getpid(),
        "starter_began": began(os.getpid()),
        "name": tiny_table.manifest.name,
        "version": tiny_table.manifest.version,
        "socket": str(table.socket),
        "answer_within_s": 60,
        "dumps": True,
    }
    assert not read_progress(table.socket.with_suffix(".progress")).batch_began


def test_it_answers_as_the_service_does(table, client, tiny_table):
    name = tiny_table.manifest.name
    native = client.post(f"/predictions/{name}", json=ROW)
    assert native.status_code == 200 and native.headers["content-type"] == "application/json"
    v2 = client.post(
        f"/v2/models/{name}/versions/1.0/infer",
        json={
            "inputs": [
                {"name": "values", "shape": [1, 5], "datatype": "FP32", "data": ROW},
            ]
        },
    )
    spec = tiny_table.manifest.inputs[0]
    assert v2.status_code == (200 if spec.name == "values" else 400), v2.text
    timing = native.headers["server-timing"]
    assert "queue;dur=" in timing and "total;dur=" in timing
    assert native.headers["x-request-id"]


def test_a_request_id_is_kept(client, tiny_table):
    path = f"/predictions/{tiny_table.manifest.name}"
    answer = client.post(path, json=ROW, headers={"x-request-id": "mine"})
    assert answer.headers["x-request-id"] == "mine"


def test_metadata_and_readiness_are_answered(client, tiny_table):
    name = tiny_table.manifest.name
    assert client.get(f"/v2/models/{name}").json()["versions"] == ["1.0"]
    assert client.get(f"/v2/models/{name}/versions/1.0/ready").json() == {
        "name": name,
        "ready": True,
    }
    assert client.head(f"/v2/models/{name}/ready").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/predictions", 404),
        ("POST", "/predictions/a/b/c", 404),
        ("POST", "/models", 404),
        ("DELETE", "/predictions/a", 405),
        ("GET", "/v2/models/a/infer", 405),
        ("POST", "/v2/models/a", 405),
    ],
)
def test_other_paths_and_methods_are_refused(client, method, path, status):
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["code"] == status and answer.json()["message"]
    assert ("allow" in answer.headers) == (status == 405)


def test_curls_content_type_is_no_form(client, tiny_table):
    answer = client.post(
        f"/predictions/{tiny_table.manifest.name}",
        content=json.dumps(ROW),
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert answer.status_code in (200, 415), answer.text


def test_a_broken_form_is_refused(client, tiny_table):
    answer = client.post(
        f"/predictions/{tiny_table.manifest.name}",
        content=b"no part",
        headers={"content-type": "multipart/form-data; boundary=x"},
    )
    assert answer.status_code == 400 and "form is broken" in answer.json()["message"]


def test_a_compressed_body_is_answered_as_the_body_itself(client, tiny_table):
    path = f"/predictions/{tiny_table.manifest.name}"
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    expected = client.post(path, json=ROW).json()
    sent = gzip.compress(json.dumps(ROW).encode())
    assert client.post(path, content=sent, headers=headers).json() == expected
    assert client.post(path, content=sent[:9], headers=headers).status_code == 400
    bomb = gzip.compress(bytes(LIMIT + 1))
    assert client.post(path, content=bomb, headers=headers).status_code == 413
    headers["content-encoding"] = "br"
    assert client.post(path, content=sent, headers=headers).status_code == 415


def test_a_body_over_the_limit_is_refused(client, tiny_table):
    path = f"/predictions/{tiny_table.manifest.name}"
    assert client.post(path, content=b"1" * (LIMIT + 1)).status_code == 413


def test_every_request_in_a_crowd_gets_its_own_answer(tiny_artifact, tmp_path):
    made = served(tiny_artifact, tmp_path / "workers")
    random = np.random.default_rng(0)
    images = [encoded(random.integers(0, 256, (40, 40, 3), np.uint8)) for _ in range(6)]
    path = f"/predictions/{tiny_artifact.manifest.name}"
    with client_of(made) as client:
        alone = [client.post(path, content=image).json() for image in images]
        assert len({json.dumps(each) for each in alone}) == len(images)

    def ask(worker: int) -> None:
        with client_of(made) as own:
            for number in range(20):
                which = (worker + number) % len(images)
                if number % 7 == 3:
                    assert own.post(path, content=b"no image").status_code == 415
                answer = own.post(path, content=images[which])
                assert answer.status_code == 200
                for found, expected in zip(answer.json(), alone[which], strict=True):
                    assert found["probability"] == pytest.approx(expected["probability"], abs=1e-4)

    with ThreadPoolExecutor(8) as crowd:
        for done in [crowd.submit(ask, worker) for worker in range(8)]:
            done.result(60)
    assert made.unanswered == 0


def test_torchserves_requests_and_direct_ones_take_turns(tiny_artifact, tmp_path):
    made = served(tiny_artifact, tmp_path / "workers")
    random = np.random.default_rng(1)
    image = encoded(random.integers(0, 256, (40, 40, 3), np.uint8))
    other = encoded(random.integers(0, 256, (40, 40, 3), np.uint8))
    path = f"/predictions/{tiny_artifact.manifest.name}"
    service = made._service
    from shipway.payloads.request import Request

    expected = service.answer([Request({"body": other})])[0].body
    wrong: list[bytes] = []
    ended = threading.Event()

    def through_torchserve() -> None:
        while not ended.is_set():
            for reply in service.answer([Request({"body": other})] * 3):
                if json.loads(reply.body)[0]["class_id"] != json.loads(expected)[0]["class_id"]:
                    wrong.append(reply.body)

    thread = threading.Thread(target=through_torchserve)
    thread.start()
    with client_of(made) as client:
        answers = {client.post(path, content=image).text for _ in range(50)}
    ended.set()
    thread.join()
    assert not wrong
    classes = {json.loads(each)[0]["class_id"] for each in answers}
    assert len(classes) == 1


def test_an_announcement_that_is_lost_or_changed_is_made_again(table):
    path = table.socket.with_suffix(".json")
    said = path.read_bytes()
    for damage in (path.unlink, lambda: path.write_bytes(b"garbage")):
        damage()
        until(lambda: path.exists() and path.read_bytes() == said)


def full_disk(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_on_a_full_disk_a_worker_is_announced_in_the_place_of_its_predecessor(table, monkeypatch):
    path = table.socket.with_suffix(".json")
    said = path.read_bytes()
    with monkeypatch.context() as full:
        full.setattr("shipway.serving.direct.atomic_write", full_disk)
        path.write_bytes(said.replace(b"pid", b"old") + b" " * 100)
        until(lambda: path.read_bytes() == said)


def test_a_worker_is_announced_as_soon_as_there_is_room(tiny_table, tmp_path, monkeypatch):
    with monkeypatch.context() as full:
        full.setattr("shipway.serving.direct.atomic_write", full_disk)
        made = served(tiny_table, tmp_path / "workers")
        with client_of(made) as client:
            name = tiny_table.manifest.name
            assert client.post(f"/predictions/{name}", json=ROW).is_success
        assert not made.socket.with_suffix(".json").exists()
    until(made.socket.with_suffix(".json").exists)
