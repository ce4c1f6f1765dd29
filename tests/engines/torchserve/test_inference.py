from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pytest

from shipway.engines.errors import ModelNotFound, PredictionFailed, Unreachable, VersionNotFound
from shipway.engines.torchserve.inference import GrpcPredictor, HttpPredictor
from shipway.engines.torchserve.tokens import bearer

OVER_THE_LIMIT = b"\0" * (20 * 2**20 + 1)


@pytest.fixture(params=["http", "grpc"])
def predictor(request, server):
    return server.inference if request.param == "http" else server.grpc


def test_an_answer_is_the_handlers_parsed(predictor):
    [answer] = predictor.predict("echo", b"hello")
    assert (answer["label"], answer["class_id"]) == ("hello", 5)
    assert predictor.predict("echo", b"hello", version="1.0") == [answer]


def test_any_byte_arrives_as_it_was_sent(predictor):
    [answer] = predictor.predict("echo", bytes(range(256)) * 4096)
    assert answer["class_id"] == 256 * 4096


def test_a_row_that_the_handler_refuses_is_an_error_of_its_own(predictor):
    with pytest.raises(PredictionFailed, match=r"It says 'broken'\.") as refused:
        predictor.predict("echo", b"broken")
    assert (refused.value.code, refused.value.type) == (415, "NotAnImage")


def test_broken_rows_do_not_fail_their_neighbours_in_a_batch(predictor):
    def ask(body: bytes):
        try:
            return predictor.predict("echo", body)[0]
        except PredictionFailed as error:
            return error

    bodies = [b"broken", b"one", b"broken", b"two"] * 3
    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(pool.map(ask, bodies))
    right = [answer for answer in answers if isinstance(answer, dict)]
    assert [isinstance(answer, PredictionFailed) for answer in answers] == [True, False] * 6
    assert [answer["label"] for answer in right] == ["one", "two"] * 3
    assert max(answer["batch"] for answer in right) > 1
    assert len({answer["pid"] for answer in right}) == 1


def test_an_unknown_model_is_named_where_grpc_hides_it_too(predictor):
    with pytest.raises(ModelNotFound, match="Model 'nothing' is not registered.*`shipway models`"):
        predictor.predict("nothing", b"x")


def test_an_unknown_version_is_named_where_grpc_hides_it_too(predictor):
    with pytest.raises(VersionNotFound, match=r"echo has no version 9.*`shipway describe echo`"):
        predictor.predict("echo", b"x", version="9")


def test_a_request_over_the_limit_is_refused_with_its_size(predictor):
    with pytest.raises(PredictionFailed, match=r"20,971,521 bytes; the limit is 20,971,\d{3}\. "):
        predictor.predict("echo", OVER_THE_LIMIT)
    assert predictor.predict("echo", b"still there")


def test_the_front_door_is_locked_without_a_token(server):
    for headers in ({}, bearer("wrong")):
        answer = httpx.post(
            f"{server.record.addresses.inference}/predictions/echo", content=b"x", headers=headers
        )
        assert answer.json()["type"] == "InvalidKeyException"


@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS"])
def test_pages_of_other_sites_are_allowed_nothing(server, method):
    asking = {
        "origin": "https://example.com",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    token = bearer(server.tokens.get("inference"))
    for path in ("/predictions/echo", "/ping", "/"):
        answer = httpx.request(
            method, f"{server.record.addresses.inference}{path}", headers=asking | token
        )
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_server_that_does_not_answer_is_an_error_with_the_address(server, monkeypatch):
    import grpc

    with closing(HttpPredictor(server.state)) as http:
        http._http.base_url = httpx.URL("http://127.0.0.1:9")
        with pytest.raises(Unreachable, match="does not answer"):
            http.predict("echo", b"x")
    elsewhere = grpc.insecure_channel
    monkeypatch.setattr(grpc, "insecure_channel", lambda _, options: elsewhere("127.0.0.1:9"))
    with (
        closing(GrpcPredictor(server.state)) as over_grpc,
        pytest.raises(Unreachable, match="does not answer"),
    ):
        over_grpc.predict("echo", b"x")


def test_a_proxy_of_the_environment_does_not_come_between(server, monkeypatch):
    for variable in ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for predictor in (HttpPredictor(server.state), GrpcPredictor(server.state)):
        with closing(predictor):
            assert predictor.predict("echo", b"x")
