"""The stages of a request, and what observers are told."""

import time

import pytest

from shipway.payloads.errors import BadTensor
from shipway.payloads.request import Request
from shipway.runtime.model import Batch
from shipway.serving.pending import PendingRequest, answered, stages_of
from shipway.serving.replies import Reply


def batch(inference_ms: float, copied_ms: float = 0.0) -> Batch:
    return Batch(
        rows=2,
        size=2,
        length=0,
        padding=0.0,
        preprocess_ms=1.0,
        host_to_device_ms=copied_ms,
        inference_ms=inference_ms,
    )


def test_the_queue_is_the_wait_before_and_in_this_process():
    now = time.time()
    request = Request({}, {"x-request-start": f"t={now - 0.5}"})
    pending = PendingRequest(request, now, time.perf_counter())
    assert stages_of(pending, time.perf_counter())["queue"] == pytest.approx(500, abs=1)
    pending.waited_ms = 20
    assert stages_of(pending, time.perf_counter())["queue"] == pytest.approx(520, abs=1)
    pending.request = Request({})
    assert stages_of(pending, time.perf_counter())["queue"] == 20
    pending.waited_ms = 0
    assert "queue" not in stages_of(pending, time.perf_counter())


def test_runs_are_added_up_and_a_copy_is_a_stage_only_where_there_is_one():
    pending = PendingRequest(Request({}), 0.0, time.perf_counter(), batches=[batch(2), batch(3)])
    stages = stages_of(pending, time.perf_counter())
    assert stages["inference"] == 5 and stages["preprocess"] == 2
    assert "host_to_device" not in stages
    pending.batches = [batch(2, copied_ms=4)]
    assert stages_of(pending, time.perf_counter())["host_to_device"] == 4


def test_observers_are_told_of_the_error_and_of_the_bytes():
    request = Request({"a": b"123", "b": "text"}, {"traceparent": "00-1-2-01"}, "mine")
    pending = PendingRequest(request, 5.0, 0.0, error=BadTensor("wrong"))
    told = answered(pending, Reply(b"12345", 400))
    assert (told.id, told.error, told.status) == ("mine", "BadTensor", 400)
    assert (told.bytes_in, told.bytes_out, told.traceparent) == (3, 5, "00-1-2-01")
