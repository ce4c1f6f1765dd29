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
from shipway.metrics.observed import Answered, Watcher
from shipway.payloads.errors import BadRequest, InternalError, NotFinite
from shipway.payloads.request import Request
from shipway.runtime.model import Model, Ride, Row, RowResult
from shipway.serving import oip
from shipway.serving.deadlines import Deadlines, sent_at
from shipway.serving.replies import Reply, encode, refusal, server_timing
from shipway.serving.statuses import STATUS_OF
from shipway.tasks import TASKS
from shipway.tasks.base import Decoded, Inputs, Task

logger = logging.getLogger(__name__)

LEAST_ROWS = 8


def most_rows(batch_size: int) -> int:
    """Of one run, where a batch has so many requests at most, each of which may have many rows.

    Runtimes keep memory for the largest run, so none is larger than it has to be.
    """
    return max(batch_size, LEAST_ROWS)


@dataclass(slots=True)
class _Asked:
    """One request on its way through a batch."""

    request: Request
    received: float
    """Seconds since 1970."""
    start: float
    """The same moment on the clock that durations are taken from."""
    in_v2: bool = False
    v2: oip.Asked | None = None
    inputs: Inputs | None = None
    error: ShipwayError | None = None
    rows: list[Row] = field(default_factory=list)
    notes: list[Mapping[str, Any] | None] = field(default_factory=list)
    results: list[RowResult] = field(default_factory=list)
    decode_ms: float = 0.0
    rides: list[Ride] = field(default_factory=list)
    """The runs that its rows were in, each once, however many of its rows it had."""
    stages_ms: Mapping[str, float] = field(default_factory=dict)


class Steps(Protocol):
    """What a handler of one's own may do before and after the model."""

    def preprocess(self, request: Request) -> Request:
        """A request before it is read. Raises BadRequest to refuse it."""
        ...

    def postprocess(self, answer: Any) -> Any:
        """The answer for one row, before it is written as JSON."""
        ...


class Service:
    """One model, answering. Not safe to call from two threads at once."""

    def __init__(
        self,
        model: Model,
        watchers: Sequence[Watcher] = (),
        *,
        task: Task | None = None,
        steps: Steps | None = None,
    ) -> None:
        """`task` reads and answers, by default the one that the manifest names; `steps` come
        before and after it. Raises UnknownName for a task that is not known here."""
        self.model = model
        self._watchers = watchers
        manifest = model.manifest
        self._task = task or TASKS.get(manifest.task)(model)
        self._steps = steps
        self._outputs = tuple(each.name for each in manifest.outputs)
        self._deadlines = Deadlines()
        self._headers = {
            "Shipway-Version": manifest.version,
            "Shipway-Artifact": model.artifact.digest,
            "Shipway-Program": model.program_name,
        }

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply a request, in order. Raises DeviceLost alone; whatever one request provokes,
        the others are answered."""
        now, start = time.time(), time.perf_counter()
        asked = [self._parse(each, now, start) for each in requests]
        self._decode([each for each in asked if each.inputs is not None])
        running = [each for each in asked if each.error is None]
        results = iter(self.model.run([row for each in running for row in each.rows]))
        for each in running:
            each.results = [next(results) for _ in each.rows]
            each.rides = list({id(one.ride): one.ride for one in each.results}.values())
        replies = [self._reply(each) for each in asked]
        if running:
            self._deadlines.ran(time.perf_counter() - start, now)
        if self._watchers:
            self._tell_watchers(list(map(_answered, asked, replies)))
        return replies

    def describe(self) -> dict[str, Any]:
        """What runs here, with the v2 protocol's model metadata."""
        manifest = self.model.manifest
        platform = self.model.described
        return self.model.describe() | {
            "task": manifest.task,
            "metadata": oip.metadata(
                manifest.name,
                manifest.version,
                manifest.inputs,
                manifest.outputs,
                f"{platform.runtime}_{platform.format}",
            ),
        }

    def _parse(self, request: Request, now: float, batch_start: float) -> _Asked:
        asked = _Asked(request, now, batch_start)
        start = time.perf_counter()
        try:
            self._deadlines.check(request, now)
            if self._steps is not None:
                asked.request = request = self._steps.preprocess(request)
            value = request.fields.get("body")
            if oip.is_one(request, value := _maybe_v2(request, value)):
                asked.in_v2 = True
                asked.v2 = oip.read(
                    request,
                    value,
                    self.model.manifest.inputs,
                    self._outputs,
                    self._task.bytes_tensor,
                )
                if asked.v2.items:
                    items = [self._item(*each) for each in enumerate(asked.v2.items)]
                    asked.inputs = Inputs(items, many=True)
                else:
                    self._task.check(asked.v2.arrays)
                    asked.rows = list(zip(*asked.v2.arrays, strict=True))
                    asked.notes = [None] * len(asked.rows)
            else:
                asked.inputs = self._task.parse(request)
        except tuple(STATUS_OF) as error:
            asked.error = error
        except Exception:
            logger.exception("a request could not be read")
            asked.error = InternalError("The request could not be read for a reason unknown here.")
        asked.decode_ms = 1000 * (time.perf_counter() - start)
        return asked

    def _item(self, place: int, data: bytes) -> Any:
        try:
            return self._task.parse_bytes(data)
        except tuple(STATUS_OF) as error:
            raise _placed(error, place) from error

    def _decode(self, asked: list[_Asked]) -> None:
        """All requests' inputs together, so that threads and libraries see as many as there are."""
        inputs = [each.inputs for each in asked if each.inputs is not None]
        decoded = iter(self._task.decode([item for each in inputs for item in each.items]))
        for one in asked:
            assert one.inputs is not None
            for place, found in enumerate([next(decoded) for _ in one.inputs.items]):
                if isinstance(found, Decoded):
                    one.rows.append(found.row)
                    one.notes.append(found.note)
                    one.decode_ms += found.milliseconds
                elif one.error is None:
                    one.error = _placed(found, place) if one.inputs.many else found

    def _reply(self, asked: _Asked) -> Reply:
        start = time.perf_counter()
        try:
            if asked.error is None:
                self._check(asked)
            reply = self._written(asked) if asked.error is None else self._refused(asked)
        except Exception:
            logger.exception("an answer could not be written")
            asked.error = InternalError("The answer could not be written; the log has why.")
            reply = self._refused(asked)
        reply.headers |= self._headers
        asked.stages_ms = _stages(asked, start)
        reply.headers["Server-Timing"] = server_timing(asked.stages_ms)
        if asked.results:
            reply.headers["Shipway-Batch"] = str(max(each.rows for each in asked.rides))
        return reply

    def _tell_watchers(self, answered: Sequence[Answered]) -> None:
        for watcher in self._watchers:
            try:
                watcher.batch(answered)
            except Exception:  # nobody's answer should fail because it could not be counted
                logger.exception("a batch was answered and not recorded")

    def _refused(self, asked: _Asked) -> Reply:
        assert asked.error is not None
        return refusal(asked.error, v2=asked.in_v2)

    def _check(self, asked: _Asked) -> None:
        for each in asked.results:
            if isinstance(each.error, ShipwayError) and type(each.error) in STATUS_OF:
                asked.error = each.error
            elif each.error is not None:
                asked.error = InternalError("The model failed on this input; the log has why.")
            elif not all(np.isfinite(output).all() for output in each.outputs):
                asked.error = NotFinite(
                    "The model's outputs for this input are not finite: it holds values that the "
                    "model does not compute with."
                )

    def _written(self, asked: _Asked) -> Reply:
        outputs = tuple(
            np.stack(column)
            for column in zip(*(each.outputs for each in asked.results), strict=True)
        )
        if asked.v2 is not None or asked.request.wants_binary:
            v2 = asked.v2 or oip.Asked(id=None)
            if asked.request.wants_binary:
                v2 = oip.Asked(id=v2.id, outputs=v2.outputs)
            body, headers = oip.write(
                self.model.manifest.name,
                self.model.manifest.version,
                v2,
                dict(zip(self._outputs, outputs, strict=True)),
                _together(asked.notes),
            )
            return Reply(body, headers=headers)
        answers = self._task.answers(outputs, asked.notes)
        if self._steps is not None:
            answers = [self._steps.postprocess(each) for each in answers]
        many = asked.inputs is not None and asked.inputs.many
        return Reply(encode(answers if many else answers[0]))


def _maybe_v2(request: Request, value: Any) -> Any:
    """A JSON body that may be v2, decoded; anything else as it is."""
    if oip.HEADER_LENGTH in request.headers or not isinstance(value, bytes | bytearray):
        return value
    if request.content_type.startswith("text/"):
        return value
    if value[:64].lstrip()[:1] == b"{" and b'"inputs"' in value[:4096]:
        try:
            return oip.parse_json(value, oip.ACCEPTED)
        except BadRequest:  # no JSON, so no v2 either; a text may look like this
            return value
    return value


def _placed(error: ShipwayError, place: int) -> ShipwayError:
    return type(error)(f"Input {place}: {error}")


def _together(notes: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """What rows' notes say, a list each, for the parameters of a v2 reply."""
    known = [each for each in notes if each]
    return {name: [each[name] for each in known] for name in (known[0] if known else ())}


def _stages(asked: _Asked, postprocess_start: float) -> dict[str, float]:
    """Milliseconds by stage."""
    stages: dict[str, float] = {}
    if (sent := sent_at(asked.request)) is not None:
        stages["queue"] = max(0.0, 1000 * (asked.received - sent))
    rides = asked.rides
    now = time.perf_counter()
    stages["decode"] = asked.decode_ms
    stages["preprocess"] = sum(each.preprocess_ms for each in rides)
    if copied_ms := sum(each.host_to_device_ms for each in rides):
        stages["host_to_device"] = copied_ms
    stages["inference"] = sum(each.inference_ms for each in rides)
    stages["postprocess"] = 1000 * (now - postprocess_start)
    stages["total"] = 1000 * (now - asked.start)
    return stages


def _answered(asked: _Asked, reply: Reply) -> Answered:
    request = asked.request
    return Answered(
        id=request.id,
        traceparent=request.headers.get("traceparent", ""),
        received=asked.received,
        status=reply.status,
        error=None if asked.error is None else type(asked.error).__name__,
        rows=len(asked.rows),
        bytes_in=sum(
            len(each) for each in request.fields.values() if isinstance(each, bytes | bytearray)
        ),
        bytes_out=len(reply.body),
        stages_ms=asked.stages_ms,
        rides=asked.rides,
    )
