"""Tokens over HTTP, and over gRPC with and without TLS, of a server that knows others by now."""

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from shipway.engines.errors import Refused
from shipway.engines.torchserve.tokens import TokenAuth, Tokens, bearer, is_token_refused
from shipway.tls import trust

NOBODY = trust(None)


def expire(server, kind: str) -> str:
    """Makes the token of the file one that the server refuses; returns it."""
    key_file = server.tokens.key_file
    keys = json.loads(key_file.read_text())
    keys[kind]["key"] = "expired"
    edited = key_file.with_name("edited.json")
    edited.write_text(json.dumps(keys))
    # With the time of change that it had, or the front would follow, and let "expired" through.
    changed = key_file.stat().st_mtime_ns
    os.utime(edited, ns=(changed, changed))
    edited.replace(key_file)
    return "expired"


def test_of_many_threads_that_are_refused_only_one_renews(server):
    stale = expire(server, "inference")
    together = threading.Barrier(8)
    sent = []

    def wait_for_all(request: httpx.Request) -> None:
        sent.append(request.headers["authorization"])
        if request.headers["authorization"] == f"Bearer {stale}":
            together.wait()

    def ping(_: int) -> httpx.Response:
        return client.get("/ping")

    with httpx.Client(
        base_url=server.record.addresses.inference,
        auth=TokenAuth(server.tokens, "inference"),
        event_hooks={"request": [wait_for_all]},
        trust_env=False,
    ) as client:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ping, range(8)))
        assert client.get("/ping").status_code == 200
    assert [answer.status_code for answer in answers] == [200] * 8
    fresh = server.tokens.get("inference")
    assert fresh != stale
    assert sent.count(f"Bearer {stale}") == 8
    assert sent.count(f"Bearer {fresh}") >= 9  # more if the front did not know it yet
    assert is_token_refused(
        httpx.get(f"{server.record.addresses.inference}/ping", headers=bearer("wrong"))
    )


def test_a_renewed_token_that_is_refused_is_sent_again_for_a_moment(tmp_path):
    """The front follows the file of tokens, and is not told of a renewal."""
    key_file = tmp_path / "key_file.json"
    key_file.write_text('{"inference": {"key": "new"}}')
    tokens = Tokens(key_file, "http://127.0.0.1:9", NOBODY)
    flow = TokenAuth(tokens, "inference").auth_flow(httpx.Request("GET", "http://127.0.0.1:9"))
    next(flow)
    key_file.write_text('{"inference": {"key": "newer"}}')  # another thread has renewed it
    for _ in range(3):
        again = flow.send(httpx.Response(401))
        assert again.headers["authorization"] == "Bearer newer"
    with pytest.raises(StopIteration):
        flow.send(httpx.Response(200))


def test_the_management_token_is_renewed_too(server):
    stale = expire(server, "management")
    assert server.management.names() == ["echo"]
    assert server.tokens.get("management") != stale


def test_a_file_that_torchserve_is_writing_is_read_again(tmp_path):
    key_file = tmp_path / "key_file.json"
    key_file.write_text('{"inference": ')
    tokens = Tokens(key_file, "http://127.0.0.1:9", NOBODY)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(tokens.get, "inference")
        time.sleep(0.1)
        key_file.write_text('{"inference": {"key": "abc"}}')
        assert found.result() == "abc"


def test_a_server_that_asks_for_no_token_gets_none(tmp_path):
    tokens = Tokens(tmp_path / "key_file.json", "http://127.0.0.1:9", NOBODY)
    flow = TokenAuth(tokens, "inference").auth_flow(httpx.Request("GET", "http://127.0.0.1:9"))
    assert "authorization" not in next(flow).headers


def test_a_key_file_of_another_server_is_said_to_be_one(server, tmp_path):
    key_file = tmp_path / "key_file.json"
    key_file.write_text('{"management": {"key": "x"}, "API": {"key": "y"}}')
    tokens = Tokens(key_file, server.record.addresses.management, NOBODY)
    with pytest.raises(Refused, match="the file is another server's"):
        httpx.get(
            f"{server.record.addresses.management}/models", auth=TokenAuth(tokens, "management")
        )
