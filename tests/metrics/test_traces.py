from dataclasses import replace

import pytest

from shipway.metrics.observed import AnsweredRequest, ServedProgram
from shipway.metrics.traces import COLLECTOR_VARIABLES, _stages, parse_traceparent, tracer_for

SERVED = ServedProgram(
    name="m",
    version="1.0",
    program="onnx_fp32",
    precision="fp32",
    device="cpu",
    artifact="0" * 64,
    is_fallback=False,
)


REQUEST = AnsweredRequest(
    id="1",
    traceparent="",
    received=10.0,
    status=200,
    error=None,
    rows=1,
    bytes_in=1,
    bytes_out=1,
    stages_ms={"queue": 5, "decode": 1, "inference": 2, "postprocess": 1, "total": 6},
    batches=[],
)


def test_without_a_collector_there_is_no_tracer(monkeypatch):
    for variable in COLLECTOR_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    assert tracer_for(SERVED) is None


def test_stages_lie_end_to_end_from_the_start_to_the_end_of_the_request():
    start, end = 10_000_000_000, 10_006_000_000
    spans = {name: (first, last) for name, first, last in _stages(REQUEST, start, end)}
    assert spans == {
        "queue": (start - 5_000_000, start),
        "decode": (start, start + 1_000_000),
        "inference": (start + 1_000_000, start + 3_000_000),
        "postprocess": (end - 1_000_000, end),
    }


def test_a_request_that_was_read_early_waits_between_its_decoding_and_its_batch():
    request = replace(REQUEST, waited_ms=2.0)
    start, end = 10_000_000_000, 10_006_000_000
    assert list(_stages(request, start, end)) == [
        ("queue", start - 3_000_000, start),  # before it arrived, as it says
        ("decode", start, start + 1_000_000),
        ("queue", start + 1_000_000, start + 3_000_000),
        ("inference", start + 3_000_000, start + 5_000_000),
        ("postprocess", end - 1_000_000, end),
    ]


@pytest.mark.parametrize("flags", ["00", "02"])
def test_a_trace_that_is_not_sampled_is_known_as_that(flags):
    parent = parse_traceparent(f"00-{'a' * 32}-{'b' * 16}-{flags}")
    assert parent is not None and not parent.sampled
