"""A real server under requests that nobody should send; `make fuzz` sends more."""

from tests.fuzz.fuzz_server import fuzz

REQUESTS = 3000


def test_whatever_is_sent_is_answered_as_documented_and_good_requests_beside_it_right(server):
    run = fuzz(server, REQUESTS)
    print(dict(run.answers))
    assert [each.what for each in run.found] == []
    assert run.answers["HTTP 200"] > 0 and run.answers["HTTP 400"] > 0 and run.answers["gRPC 400"]
