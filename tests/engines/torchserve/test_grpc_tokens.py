from tests.engines.torchserve.test_tokens import expire


def test_a_token_that_has_expired_is_renewed_for_calls_over_grpc(server):
    stale = expire(server, "inference")
    assert server.grpc.predict("echo", b"hello")[0]["label"] == "hello"
    assert server.tokens.get("inference") != stale
