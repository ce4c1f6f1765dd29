"""A request that is being answered, from its arrival to what observers are told of it.

N = rows of one request.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shipway.errors import ShipwayError
from shipway.metrics.observed import AnsweredRequest
from shipway.payloads.request import Request
from shipway.runtime.model import Batch, Row, RowResult
from shipway.serving import oip
from shipway.serving.deadlines import sent_at
from shipway.serving.replies import Reply
from shipway.tasks.base import Inputs


@dataclass(slots=True)
class PendingRequest:
    """One request of a batch, and what is known of it so far."""

    request: Request
    received: float
    """Seconds since 1970."""
    start: float
    """The same moment, in seconds of `time.perf_counter`."""
    is_v1: bool = False
    is_v2: bool = False
    v2: oip.InferRequest | None = None
    inputs: Inputs | None = None
    """What its native payload holds; None for v2 tensors and for a request with an error."""
    error: ShipwayError | None = None
    rows: list[Row] = field(default_factory=list)
    notes: list[Mapping[str, Any] | None] = field(default_factory=list)
    """What the answer must say of each row."""
    results: list[RowResult] = field(default_factory=list)
    outputs: tuple[np.ndarray, ...] | None = None
    """Each output of its rows, (N, …), which are finite; None before it is known."""
    answers: Sequence[Any] | None = None
    """What the task says of each row; None before it has."""
    decode_ms: float = 0.0
    ran_ms: float = 0.0
    """Of those of its rows that ran before the others, since they are many."""
    waited_ms: float = 0.0
    """In this process, for a thread and for the program; 0 if the server gathers batches."""
    batches: list[Batch] = field(default_factory=list)
    """The runs that computed its rows, each once."""
    stages_ms: Mapping[str, float] = field(default_factory=dict)


def stages_of(pending: PendingRequest, postprocess_start: float) -> dict[str, float]:
    """Milliseconds by stage, up to now. `postprocess_start` is in seconds of
    `time.perf_counter`."""
    stages: dict[str, float] = {}
    if (sent := sent_at(pending.request, pending.received)) is not None:
        stages["queue"] = max(0.0, 1000 * (pending.received - sent))
    if pending.waited_ms:
        stages["queue"] = stages.get("queue", 0.0) + pending.waited_ms
    batches = pending.batches
    now = time.perf_counter()
    stages["decode"] = pending.decode_ms
    stages["preprocess"] = sum(batch.preprocess_ms for batch in batches)
    if copied_ms := sum(batch.host_to_device_ms for batch in batches):
        stages["host_to_device"] = copied_ms
    stages["inference"] = sum(batch.inference_ms for batch in batches)
    stages["postprocess"] = 1000 * (now - postprocess_start)
    stages["total"] = 1000 * (now - pending.start)
    return stages


def answered(pending: PendingRequest, reply: Reply) -> AnsweredRequest:
    """What observers are told of a request and its reply."""
    request = pending.request
    return AnsweredRequest(
        id=request.id,
        traceparent=request.headers.get("traceparent", ""),
        received=pending.received,
        status=reply.status,
        error=None if pending.error is None else type(pending.error).__name__,
        rows=len(pending.rows),
        bytes_in=sum(
            len(value) for value in request.fields.values() if isinstance(value, bytes | bytearray)
        ),
        bytes_out=len(reply.body),
        stages_ms=pending.stages_ms,
        waited_ms=pending.waited_ms,
        batches=pending.batches,
    )


def by_note(notes: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """What the notes say of the rows, as a list for each name: the parameters of a v2 reply. Names
    with an underscore are for the task alone."""
    known = [note for note in notes if note]
    names = [name for name in (known[0] if known else ()) if not name.startswith("_")]
    return {name: [note[name] for note in known] for name in names}
