import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from shipway.engines.errors import Refused
from shipway.engines.torchserve.tls import trust
from shipway.engines.torchserve.tokens import Tokens, bearer, is_token_refused

NOBODY = trust(None)


def test_of_many_threads_that_are_refused_only_one_renews(server):
    stale = server.tokens.get("inference")
    together = threading.Barrier(8)

    def ping(headers: dict[str, str]) -> httpx.Response:
        if headers == bearer(stale):
            together.wait()
        return httpx.get(f"{server.record.addresses.inference}/ping", headers=headers)

    def has_expired(answer: httpx.Response) -> bool:
        return answer.request.headers["authorization"] == bearer(stale)["authorization"]

    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda _: server.tokens.send("inference", ping, has_expired),
                range(8),
            )
        )
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len({answer.request.headers["authorization"] for answer in answers}) == 1
    assert is_token_refused(
        httpx.get(f"{server.record.addresses.inference}/ping", headers=bearer(stale))
    )


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
    assert tokens.send("inference", lambda headers: headers, lambda _: False) == {}


def test_a_key_file_of_another_server_is_said_to_be_one(server, tmp_path):
    key_file = tmp_path / "key_file.json"
    key_file.write_text('{"management": {"key": "x"}, "API": {"key": "y"}}')
    tokens = Tokens(key_file, server.record.addresses.management, NOBODY)
    with pytest.raises(Refused, match="the file is another server's"):
        tokens.send("management", lambda headers: headers, lambda _: True)
