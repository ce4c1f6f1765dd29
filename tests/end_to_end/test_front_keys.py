"""Named keys at the front of a real server: HTTP, gRPC, and models that TorchServe serves."""

import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pytest
import tritonclient.grpc as triton

from shipway.archive.pack import pack
from shipway.artifact.bundle import Artifact
from shipway.engines.torchserve.tokens import bearer
from tests.echo import register_echo
from tests.servers import SHIPWAY, RunningServer, running_server, shipway, until, write_config

MODEL = "tiny-table"
ROW = [0.3, -1.2, 0.8, 0.1, 2.0]
PATH = f"/predictions/{MODEL}"
FOLLOWED_WITHIN_S = 1.0


@pytest.fixture(scope="module")
def server(
    tiny_table: Artifact, echo_mars, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """Two workers of our model, and a foreign one."""
    folder = tmp_path_factory.mktemp("front-keys")
    (folder / "model_store").mkdir()
    mar = pack(tiny_table, folder / "model_store")
    with running_server(folder, front="on") as running:
        running.management.register(
            mar.name,
            name=MODEL,
            version="1.0",
            batch_size=4,
            max_batch_delay_ms=0,
            workers=2,
        )
        register_echo(running, echo_mars["1.0"], "1.0")
        yield running


def add(server: RunningServer, name: str, *words: str) -> str:
    done = shipway(server.state, "key", "add", name, *words)
    assert done.returncode == 0 and "not in force" not in done.stderr, done.stderr
    return done.stdout.strip()


def remove(server: RunningServer, name: str) -> None:
    assert shipway(server.state, "key", "remove", name).returncode == 0


def ask(server: RunningServer, key: str, path: str = PATH) -> httpx.Response:
    return httpx.post(
        server.record.addresses.inference + path,
        json=ROW,
        headers=bearer(key),
        trust_env=False,
        timeout=30,
    )


def follows(server: RunningServer, key: str, status: int) -> None:
    began = time.monotonic()
    until(lambda: ask(server, key).status_code == status, FOLLOWED_WITHIN_S)
    assert time.monotonic() - began < FOLLOWED_WITHIN_S


def test_a_key_opens_everything_that_the_token_opens_until_it_is_removed(server):
    key, other = add(server, "app"), add(server, "other")
    follows(server, key, 200)
    assert ask(server, key).json() == ask(server, server.tokens.get("inference")).json()
    assert ask(server, key, "/predictions/echo").status_code == 200  # by TorchServe
    assert ask(server, key, f"/v1/models/{MODEL}:predict").status_code == 400
    with closing(triton.InferenceServerClient(server.record.addresses.grpc_inference)) as client:
        headers = bearer(key)
        assert client.is_model_ready(MODEL, headers=headers)
        assert client.is_server_live(headers=headers)  # by TorchServe, which has no name of ours
        remove(server, "app")
        follows(server, key, 401)
        with pytest.raises(triton.InferenceServerException) as refused:
            client.is_model_ready(MODEL, headers=headers)
        assert "UNAUTHENTICATED" in refused.value.status()
    assert ask(server, key, "/predictions/echo").status_code == 401
    assert ask(server, other).status_code == 200
    assert ask(server, server.tokens.get("inference")).status_code == 200
    remove(server, "other")


def test_a_limit_holds_across_workers_models_and_protocols(server):
    key = add(server, "limited", "--requests-per-second", "10")
    follows(server, key, 200)
    paths = [PATH, f"{PATH}/1.0", "/predictions/echo", f"/v1/models/{MODEL}:predict"]
    address = server.record.addresses.inference
    time.sleep(1)
    with (
        httpx.Client(base_url=address, headers=bearer(key), trust_env=False) as client,
        ThreadPoolExecutor(4) as crowd,
    ):
        began = time.monotonic()
        answers = list(crowd.map(lambda path: client.post(path, json=ROW), paths * 50))
        took = time.monotonic() - began
    passed = [each for each in answers if each.status_code != 429]
    assert 10 <= len(passed) <= 10 + 10 * took + 1
    over = next(each for each in answers if each.status_code == 429)
    assert over.headers["retry-after"] == "1"
    assert over.json()["type"] == "TooManyRequestsException" and over.json()["code"] == 429
    assert "limited" in over.json()["message"]
    with closing(triton.InferenceServerClient(server.record.addresses.grpc_inference)) as client:
        with pytest.raises(triton.InferenceServerException) as refused:
            for _ in range(200):
                client.is_model_ready(MODEL, headers=bearer(key))
        assert "RESOURCE_EXHAUSTED" in refused.value.status()
    assert ask(server, server.tokens.get("inference")).status_code == 200
    time.sleep(1)
    assert ask(server, key).status_code == 200
    remove(server, "limited")


def test_a_broken_file_is_told_and_the_last_keys_stay_in_force(server):
    key = add(server, "app")
    follows(server, key, 200)
    path = server.state.keys_file
    good = path.read_text()
    path.write_text(good[: len(good) // 2])
    until(lambda: "is not valid JSON" in server.state.front_log.read_text(), FOLLOWED_WITHIN_S)
    assert ask(server, key).status_code == 200
    path.write_text(json.dumps({"format": 1, "keys": [], "everyone": True}))
    until(lambda: "unknown field 'everyone'" in server.state.front_log.read_text())
    assert ask(server, key).status_code == 200
    assert ask(server, "nobody").status_code == 401
    path.unlink()
    follows(server, key, 401)


def test_a_renewed_token_changes_nothing_for_keys(server):
    key = add(server, "app")
    follows(server, key, 200)
    old = server.tokens.get("inference")
    server.tokens.renew("inference", refused=old)
    until(lambda: ask(server, server.tokens.get("inference")).status_code == 200)
    for _ in range(20):
        assert ask(server, key, "/predictions/echo").status_code == 200
        time.sleep(0.05)
    remove(server, "app")


def test_a_file_that_is_broken_at_the_start_lets_nobody_in(tiny_table, tmp_path):
    (tmp_path / "model_store").mkdir()
    state = tmp_path / ".shipway"
    state.mkdir()
    (state / "keys.json").write_text('{"format": 1, "keys": "all"}')
    with running_server(tmp_path, front="on") as running:
        assert "no keys are in force" in running.state.front_log.read_text()
        for sent in ("", "shipway_" + "a" * 43):
            assert ask(running, sent, "/ping").status_code == 401
        assert ask(running, running.tokens.get("inference"), "/ping").status_code != 401


def test_serve_says_that_keys_need_the_front(tmp_path):
    config, state = write_config(tmp_path, front="off"), tmp_path / "state"
    environment = ["--state", str(state)]
    added = subprocess.run(
        [*SHIPWAY, "key", "add", "app", *environment], cwd=tmp_path, capture_output=True, text=True
    )
    started = subprocess.run(
        [*SHIPWAY, "serve", "--background", "--config", config, *environment],
        capture_output=True,
        text=True,
        timeout=120,
    )
    try:
        assert started.returncode == 0, started.stderr
        for done in (added, started):
            assert "Named keys are not in force" in done.stderr
            assert "Set front=on" in done.stderr
    finally:
        subprocess.run([*SHIPWAY, "stop", *environment], capture_output=True, timeout=120)
