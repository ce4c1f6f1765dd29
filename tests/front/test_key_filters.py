"""Named keys at a real Envoy: who is let in, how often, and what the others are told."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import grpc
import pytest

from shipway.front.keys import KEY_PREFIX, Key, hash_of
from shipway.front.registered import Registered
from tests.front.envoys import ENVOY, Running, envoy, until

__all__ = ["envoy"]  # a fixture
pytestmark = pytest.mark.skipif(ENVOY is None, reason="there is no Envoy for this platform")


def new_key() -> str:
    return KEY_PREFIX + secrets.token_urlsafe(32)


def named(name: str, key: str, limit: int | None = None) -> Key:
    return Key(name=name, sha256=hash_of(key), requests_per_second=limit)


def registered_with(running: Running, *keys: Key) -> Registered:
    return Registered(
        workers=(running.worker("cats", "1.0"),),
        defaults={"cats": "1.0"},
        with_tokens=True,
        token="token",
        tokens=("token",),
        keys=keys,
    )


def status(running: Running, key: str, path: str = "/predictions/cats") -> int:
    return running.client.post(path, headers={"authorization": f"Bearer {key}"}).status_code


def test_envoy_finds_each_key_by_its_hash(envoy):
    keys = {f"client-{number}": new_key() for number in range(200)}
    found = [named(name, key) for name, key in keys.items()]
    with envoy.running(registered_with(envoy, *found)):
        for _ in range(2):  # hashed, and known from before
            assert {status(envoy, key) for key in keys.values()} == {200}
        assert {status(envoy, new_key()) for _ in range(50)} == {401}
        assert status(envoy, "token") == 200


def test_a_key_is_followed_when_it_comes_and_goes(envoy):
    key, other = new_key(), new_key()
    without = registered_with(envoy)
    with envoy.running(without):
        assert status(envoy, key) == 401
        envoy.files.update(replace(without, keys=(named("a", key), named("b", other))))
        until(lambda: status(envoy, key) == 200)
        envoy.files.update(replace(without, keys=(named("b", other),)))
        until(lambda: status(envoy, key) == 401)
        assert status(envoy, other) == 200
        envoy.files.update(without)
        until(lambda: status(envoy, other) == 401)
        assert status(envoy, "token") == 200


def test_only_the_key_itself_opens(envoy):
    key = new_key()
    found = named("a", key)
    forged = {"x-shipway-key": "a", "x-shipway-listener": "grpc", "shipway": "a"}
    with envoy.running(registered_with(envoy, found)):
        for sent in (
            *(f"bearer {key}", f"Basic {key}", key, f"Bearer {key[:-1]}", f"Bearer {key}x"),
            *(f"Bearer  {key}", f"Bearer {key},Bearer {key}", f"Bearer {found.sha256}"),
            *(f"Bearer {key.swapcase()}", f"Bearer {KEY_PREFIX}", "Bearer a"),
        ):
            answer = envoy.client.post("/predictions/cats", headers={"authorization": sent})
            assert answer.status_code == 401, sent
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["type"] == "InvalidKeyException"
        assert envoy.client.post("/predictions/cats", headers=forged).status_code == 401
        assert status(envoy, key) == 200


def test_no_key_is_in_envoys_files_and_torchserve_gets_its_own_token(envoy):
    key = new_key()
    with envoy.running(registered_with(envoy, named("a", key))):
        answer = envoy.client.get("/ping", headers={"authorization": f"Bearer {key}"})
        assert "Bearer token" in answer.text and key not in answer.text
    for path in envoy.config.folder.iterdir():
        assert not path.is_file() or key not in path.read_text()


def test_a_limit_counts_all_requests_of_a_key_and_none_of_others(envoy):
    limited, other, free = new_key(), new_key(), new_key()
    keys = named("a", limited, 5), named("b", other, 5), named("c", free)
    registered = registered_with(envoy, *keys)
    dogs = envoy.worker("dogs", "1.0", 2)
    with envoy.running(replace(registered, workers=(*registered.workers, dogs))):
        paths = ["/predictions/cats", "/predictions/dogs/1.0", "/ping", "/v2/models/cats"]
        began = time.monotonic()
        found = [status(envoy, limited, paths[number % 4]) for number in range(30)]
        took = time.monotonic() - began
        assert found[:5] == [200] * 5
        assert found.count(200) <= 5 + 5 * took and set(found) == {200, 429}
        assert [status(envoy, other) for _ in range(5)] == [200] * 5
        assert {status(envoy, key) for key in (free, "token") for _ in range(30)} == {200}
        time.sleep(1.1)
        assert [status(envoy, limited) for _ in range(6)] == [200] * 5 + [429]


def test_a_refusal_above_the_limit_has_torchserves_form_and_says_when_to_come_back(envoy):
    key = new_key()
    with envoy.running(registered_with(envoy, named("mobile.app", key, 1))):
        sent = {"authorization": f"Bearer {key}"}
        envoy.client.post("/predictions/cats", headers=sent)
        answer = envoy.client.post("/predictions/cats", headers=sent)
        assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
        assert answer.json() == {
            "code": 429,
            "type": "TooManyRequestsException",
            "message": "The key mobile.app has reached its limit of requests per second. Send the "
            "request again after a second.",
        }
        time.sleep(1)
        assert envoy.client.post("/predictions/cats", headers=sent).status_code == 200


def test_one_limit_counts_http_and_grpc(envoy):
    key = new_key()
    metadata = [("authorization", f"Bearer {key}")]
    address = f"{envoy.config.grpc_host}:{envoy.config.grpc_port}"
    with envoy.running(registered_with(envoy, named("a", key, 3))), closing_channel(address) as ask:
        assert ask([]) == grpc.StatusCode.UNAUTHENTICATED
        assert ask([("authorization", f"Bearer {new_key()}")]) == grpc.StatusCode.UNAUTHENTICATED
        for _ in range(3):  # no worker of the test speaks gRPC
            assert status(envoy, key) == 200
        assert ask(metadata) == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert status(envoy, key) == 429
        time.sleep(1.1)
        assert ask(metadata) != grpc.StatusCode.RESOURCE_EXHAUSTED
        assert [status(envoy, key) for _ in range(3)] == [200, 200, 429]


@contextmanager
def closing_channel(address: str) -> Iterator[Callable[[list[tuple[str, str]]], grpc.StatusCode]]:
    """Sends a call that carries such metadata, and returns its status."""
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelReady")

        def ask(metadata: list[tuple[str, str]]) -> grpc.StatusCode:
            try:
                call(b"\x0a\x04cats", metadata=metadata, timeout=5)
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        yield ask
