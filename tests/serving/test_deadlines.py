"""A deadline that cannot be kept is answered at once, and costs nothing."""

import json
import time

import pytest

from shipway.payloads.errors import BadRequest, DeadlinePassed
from shipway.payloads.request import Request
from shipway.runtime.model import Model
from shipway.serving.deadlines import GRPC_WITHIN, LATELY_S, SENT, WITHIN, Deadlines, sent_at
from shipway.serving.service import Service
from tests.serving.test_service import JSON

ROW = b"[1, 2, 3, 4, 5]"
NOW = 1.7e9


class Watching(list):
    """What there was to say of each request."""

    def observe(self, requests) -> None:
        self.extend(requests)


def asked(within_ms: float, waited_ms: float, now: float = NOW) -> Request:
    said = {WITHIN: str(within_ms), SENT: f"t={now - waited_ms / 1000:.6f}"}
    return Request({"body": ROW}, JSON | said)


def test_a_request_past_its_deadline_is_answered_504_and_neither_read_nor_run(tiny_table):
    watching = Watching()
    service = Service(Model(tiny_table), [watching])
    now = time.time()
    late = asked(100, waited_ms=150, now=now)
    early = asked(60_000, waited_ms=150, now=now)
    broken = Request({"body": b"no JSON"}, late.headers)
    requests = [late, early, broken, Request({"body": ROW}, JSON)]
    replies = service.answer(requests)
    assert [each.status for each in replies] == [504, 200, 504, 200]
    assert replies[1].body == replies[3].body
    error = json.loads(replies[0].body)
    assert error["type"] == "DeadlinePassed" and error["code"] == 504
    assert "deadline of 100 ms cannot be met: the request has waited for 15" in error["message"]
    assert error["error"] == error["message"]  # as v2 has it, since nobody looked what it was
    assert replies[0].headers["Retry-After"] == "1"
    assert [(each.error, each.rows, len(each.batches)) for each in watching] == [
        ("DeadlinePassed", 0, 0),
        (None, 1, 1),
        ("DeadlinePassed", 0, 0),
        (None, 1, 1),
    ]


def test_over_grpc_fields_beside_the_body_say_the_deadline(tiny_table):
    service = Service(Model(tiny_table))
    fields = {"body": ROW, WITHIN: b"100", SENT: f"t={time.time() - 1:.3f}".encode()}
    late, good = service.answer([Request(fields), Request(fields | {WITHIN: b"60000"})])
    assert (late.status, good.status) == (504, 200)
    queued = good.headers["Server-Timing"].partition(",")[0]
    assert float(queued.removeprefix("queue;dur=")) == pytest.approx(1000, abs=200)


@pytest.mark.parametrize("value", ["soon", "-1", "0", "nan", "inf", "5s"])
def test_a_deadline_that_is_no_number_is_refused(value):
    with pytest.raises(BadRequest, match=f"is '{value}'; expected a number of milliseconds"):
        Deadlines().check(Request({"body": ROW}, {WITHIN: value}), NOW)


@pytest.mark.parametrize(
    ("timeout", "late"),
    [("100m", True), ("99999u", True), ("1n", True), ("1S", False), ("5M", False), ("1H", False)],
)
def test_a_calls_own_deadline_counts(timeout, late):
    call = Request({"body": ROW}, {GRPC_WITHIN: timeout})
    assert isinstance(Deadlines().why_late(call, NOW, received=NOW - 0.2), DeadlinePassed) is late
    shorter = Request({"body": ROW}, {GRPC_WITHIN: "1n", WITHIN: "60000"})
    assert Deadlines().why_late(shorter, NOW, received=NOW - 0.2) is None  # it says so itself


@pytest.mark.parametrize("timeout", ["", "m", "100", "-1S", "1.5S", "123456789m", "1D"])
def test_a_deadline_as_no_grpc_library_writes_it_is_none(timeout):
    call = Request({"body": ROW}, {GRPC_WITHIN: timeout})
    assert Deadlines().why_late(call, NOW, received=NOW - 1e6) is None


def test_without_a_start_or_from_a_clock_that_is_ahead_nothing_was_waited():
    deadlines = Deadlines()
    deadlines.check(Request({"body": ROW}, {WITHIN: "0.1"}), NOW)
    deadlines.check(asked(0.1, waited_ms=-5000), NOW)


def test_what_is_left_must_be_enough_for_a_batch_as_they_take_now():
    deadlines = Deadlines()
    deadlines.check(asked(100, waited_ms=99), NOW)  # nothing is known of batches yet
    for _ in range(30):
        deadlines.ran(0.020, NOW)
    deadlines.check(asked(100, waited_ms=75), NOW)
    with pytest.raises(DeadlinePassed, match="processing currently takes 20 ms"):
        deadlines.check(asked(100, waited_ms=85), NOW)


def test_a_slow_batch_does_not_have_all_others_refused_for_good():
    deadlines = Deadlines()
    deadlines.ran(5.0, NOW)
    with pytest.raises(DeadlinePassed):
        deadlines.check(asked(1000, waited_ms=0), NOW)
    later = NOW + LATELY_S + 0.1
    deadlines.check(asked(1000, waited_ms=0, now=later), later)


@pytest.mark.parametrize("sent", ["t=1", "1", "t=86400", "1000000"])
def test_a_request_that_was_sent_decades_ago_says_nothing(sent):
    assert sent_at(Request({}, {SENT: sent}), time.time()) is None
    recent = time.time() - 5
    assert sent_at(Request({}, {SENT: f"t={recent}"}), time.time()) == pytest.approx(recent)
