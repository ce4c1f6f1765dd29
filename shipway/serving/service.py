"""A batch of requests to a reply for each: the whole request path, without any server's part.

N = rows of one request.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from shipway.errors import ShipwayError
from shipway.metrics.observed import AnsweredRequest, Observer
from shipway.payloads.errors import BadRequest, InternalError, NotFinite
from shipway.payloads.request import Request
from shipway.runtime.model import Batch, Model, Row, RowResult
from shipway.serving import oip
from shipway.serving.deadlines import Deadlines, sent_at
from shipway.serving.replies import Reply, encode, refusal, server_timing
from shipway.serving.statuses import STATUS_OF, status_of
from shipway.tasks import TASKS
from shipway.tasks.base import Decoded, Inputs, Task

logger = logging.getLogger(__name__)

LEAST_ROWS = 8


def most_rows(batch_size: int) -> int:
    """The largest run of the program, in rows, for a server that batches up to `batch_size`
    requests. Each request may have several rows.

    Runtimes keep memory for the largest run, so it is no larger than needed.
    """
    return max(batch_size, LEAST_ROWS)


@dataclass(slots=True)
class _PendingRequest:
    """One request of a batch, and what is known of it so far."""

    request: Request
    received: float
    """Seconds since 1970."""
    start: float
    """The same moment, in seconds of `time.perf_counter`."""
    is_v2: bool = False
    v2: oip.InferRequest | None = None
    inputs: Inputs | None = None
    """What its native payload holds; None for v2 tensors and for a request with an error."""
    error: ShipwayError | None = None
    rows: list[Row] = field(default_factory=list)
    notes: list[Mapping[str, Any] | None] = field(default_factory=list)
    """What the answer must say of each row."""
    results: list[RowResult] = field(default_factory=list)
    decode_ms: float = 0.0
    batches: list[Batch] = field(default_factory=list)
    """The runs that computed its rows, each once."""
    stages_ms: Mapping[str, float] = field(default_factory=dict)


class Steps(Protocol):
    """What a custom handler may do before and after the model."""

    def preprocess(self, request: Request) -> Request:
        """Changes a request before it is read. Raises BadRequest to refuse it."""
        ...

    def postprocess(self, answer: Any) -> Any:
        """Changes the answer for one row before it is written as JSON."""
        ...


class Service:
    """Answers requests for one model. Not safe to call from two threads at once."""

    def __init__(
        self,
        model: Model,
        observers: Sequence[Observer] = (),
        *,
        task: Task | None = None,
        steps: Steps | None = None,
    ) -> None:
        """`task` reads requests and makes answers; by default it is the one that the manifest
        names. `steps` run before and after it. Raises UnknownName for a task that is not
        registered."""
        self.model = model
        self._observers = observers
        manifest = model.manifest
        self._task = task or TASKS.get(manifest.task)(model)
        self._steps = steps
        self._outputs = tuple(spec.name for spec in manifest.outputs)
        self._deadlines = Deadlines()
        self._headers = {
            "Shipway-Version": manifest.version,
            "Shipway-Artifact": model.artifact.digest,
            "Shipway-Program": model.program_name,
        }

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply for each request, in order.

        A request that cannot be answered gets an error reply, and the others are answered.
        Raises only DeviceLost: this process cannot use its GPU any more.
        """
        now, start = time.time(), time.perf_counter()
        pending = [self._parse(request, now, start) for request in requests]
        self._decode([each for each in pending if each.inputs is not None])
        running = [each for each in pending if each.error is None]
        results = iter(self.model.run([row for each in running for row in each.rows]))
        for each in running:
            each.results = [next(results) for _ in each.rows]
            each.batches = list({id(row.batch): row.batch for row in each.results}.values())
        replies = [self._reply(each) for each in pending]
        if running:
            self._deadlines.ran(time.perf_counter() - start, now)
        if self._observers:
            self._tell_observers(list(map(_answered, pending, replies)))
        return replies

    def describe(self) -> dict[str, Any]:
        """What runs here, with the v2 protocol's model metadata."""
        manifest = self.model.manifest
        program = self.model.described
        return self.model.describe() | {
            "task": manifest.task,
            "metadata": oip.metadata(
                manifest.name,
                manifest.version,
                manifest.inputs,
                manifest.outputs,
                f"{program.runtime}_{program.format}",
            ),
        }

    def _parse(self, request: Request, now: float, batch_start: float) -> _PendingRequest:
        pending = _PendingRequest(request, now, batch_start)
        start = time.perf_counter()
        try:
            self._deadlines.check(request, now)
            if self._steps is not None:
                pending.request = request = self._steps.preprocess(request)
            value = request.fields.get("body")
            if oip.is_v2(request, value := _maybe_v2(request, value)):
                self._parse_v2(pending, request, value)
            else:
                pending.inputs = self._task.parse(request)
        except tuple(STATUS_OF) as error:
            pending.error = error
        except Exception:
            logger.exception("a request could not be read")
            pending.error = InternalError(
                "The request could not be read. The server's log has the cause."
            )
        pending.decode_ms = 1000 * (time.perf_counter() - start)
        return pending

    def _parse_v2(self, pending: _PendingRequest, request: Request, value: Any) -> None:
        pending.is_v2 = True
        pending.v2 = oip.parse_request(
            request,
            value,
            self.model.manifest.inputs,
            self._outputs,
            self._task.bytes_tensor,
        )
        if pending.v2.items:
            items = [self._item(place, data) for place, data in enumerate(pending.v2.items)]
            pending.inputs = Inputs(items, many=True)
        else:
            self._task.check(pending.v2.arrays)
            pending.rows = list(zip(*pending.v2.arrays, strict=True))
            pending.notes = [None] * len(pending.rows)

    def _item(self, place: int, data: bytes) -> Any:
        try:
            return self._task.parse_bytes(data)
        except tuple(STATUS_OF) as error:
            raise _placed(error, place) from error

    def _decode(self, pending: list[_PendingRequest]) -> None:
        """Decodes the inputs of all requests together, so that threads and libraries get as many
        at once as there are."""
        inputs = [each.inputs for each in pending if each.inputs is not None]
        decoded = iter(self._task.decode([item for each in inputs for item in each.items]))
        for each in pending:
            assert each.inputs is not None
            for place in range(len(each.inputs.items)):
                item = next(decoded)
                if isinstance(item, Decoded):
                    each.rows.append(item.row)
                    each.notes.append(item.note)
                    each.decode_ms += item.milliseconds
                elif each.error is None:
                    each.error = _placed(item, place) if each.inputs.many else item

    def _reply(self, pending: _PendingRequest) -> Reply:
        start = time.perf_counter()
        try:
            if pending.error is None:
                pending.error = _error_of(pending.results)
            reply = self._written(pending) if pending.error is None else _refused(pending)
        except Exception:
            logger.exception("an answer could not be written")
            pending.error = InternalError(
                "The answer could not be written. The server's log has the cause."
            )
            reply = _refused(pending)
        reply.headers |= self._headers
        pending.stages_ms = _stages(pending, start)
        reply.headers["Server-Timing"] = server_timing(pending.stages_ms)
        if pending.results:
            reply.headers["Shipway-Batch"] = str(max(each.rows for each in pending.batches))
        return reply

    def _tell_observers(self, answered: Sequence[AnsweredRequest]) -> None:
        for observer in self._observers:
            try:
                observer.observe(answered)
            except Exception:  # a failure to count must not fail the answer
                logger.exception("recording the metrics of a batch failed")

    def _written(self, pending: _PendingRequest) -> Reply:
        """The answer to a request whose every row has finite outputs."""
        outputs = tuple(
            np.stack(column)
            for column in zip(*(each.outputs for each in pending.results), strict=True)
        )
        if pending.v2 is not None or pending.request.wants_binary:
            v2 = pending.v2 or oip.InferRequest(id=None)
            if pending.request.wants_binary:
                v2 = oip.InferRequest(id=v2.id, outputs=v2.outputs)
            body, headers = oip.write_reply(
                self.model.manifest.name,
                self.model.manifest.version,
                v2,
                dict(zip(self._outputs, outputs, strict=True)),
                _by_note(pending.notes),
            )
            return Reply(body, headers=headers)
        answers = self._task.answers(outputs, pending.notes)
        if self._steps is not None:
            answers = [self._steps.postprocess(answer) for answer in answers]
        many = pending.inputs is not None and pending.inputs.many
        return Reply(encode(answers if many else answers[0]))


def _refused(pending: _PendingRequest) -> Reply:
    assert pending.error is not None
    return refusal(pending.error, v2=pending.is_v2)


def _error_of(results: Sequence[RowResult]) -> ShipwayError | None:
    """The error of the last row that failed; None if every row has finite outputs."""
    error: ShipwayError | None = None
    for result in results:
        if isinstance(result.error, ShipwayError) and status_of(result.error):
            error = result.error
        elif result.error is not None:
            error = InternalError("The model failed on this input. The server's log has the cause.")
        elif not all(np.isfinite(output).all() for output in result.outputs):
            error = NotFinite(
                "The model's outputs for this input are infinite or NaN, because the input "
                "contains values that are too large or too small. Send other values."
            )
    return error


def _maybe_v2(request: Request, value: Any) -> Any:
    """A JSON body that may be v2, decoded; anything else unchanged."""
    if oip.HEADER_LENGTH in request.headers or not isinstance(value, bytes | bytearray):
        return value
    if request.content_type.startswith("text/"):
        return value
    if value[:64].lstrip()[:1] == b"{" and b'"inputs"' in value[:4096]:
        try:
            return oip.parse_json(value, oip.ACCEPTED)
        except BadRequest:  # not JSON, so not v2: it may be a text
            return value
    return value


def _placed(error: ShipwayError, place: int) -> ShipwayError:
    """The error of one input of several, with its place, counted from 0."""
    return type(error)(f"Input {place}: {error}")


def _by_note(notes: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """What the notes say of the rows, as a list for each name: the parameters of a v2 reply."""
    known = [note for note in notes if note]
    return {name: [note[name] for note in known] for name in (known[0] if known else ())}


def _stages(pending: _PendingRequest, postprocess_start: float) -> dict[str, float]:
    """Milliseconds by stage."""
    stages: dict[str, float] = {}
    if (sent := sent_at(pending.request)) is not None:
        stages["queue"] = max(0.0, 1000 * (pending.received - sent))
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


def _answered(pending: _PendingRequest, reply: Reply) -> AnsweredRequest:
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
        batches=pending.batches,
    )
