"""A batch of requests to a reply for each: the whole request path, without any server's part.

N = rows of one request.
"""

import logging
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from shipway.metrics.observed import Observer
from shipway.payloads.errors import InternalError, ReplyTooLarge
from shipway.payloads.request import BINARY, Request
from shipway.runtime.model import Model
from shipway.serving import oip, v1
from shipway.serving.deadlines import Deadlines
from shipway.serving.pending import PendingRequest, answered, by_note, stages_of
from shipway.serving.reading import each_of, maybe_v2, placed
from shipway.serving.replies import Reply, encode, refusal, server_timing
from shipway.serving.statuses import STATUS_OF
from shipway.serving.together import error_of, finite_rows, padded, stacked
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


class Steps(Protocol):
    """What a custom handler may do before and after the model."""

    def preprocess(self, request: Request) -> Request:
        """Changes a request before it is read. Raises BadRequest to refuse it."""
        ...

    def postprocess(self, answer: Any) -> Any:
        """Changes the answer for one row before it is written as JSON."""
        ...


class Service:
    """Answers requests for one model. Safe to call from several threads, which take turns with the
    program."""

    def __init__(
        self,
        model: Model,
        observers: Sequence[Observer] = (),
        *,
        task: Task | None = None,
        steps: Steps | None = None,
        most_reply_bytes: int | None = None,
    ) -> None:
        """`task` reads requests and makes answers; by default it is the one that the manifest
        names. `steps` run before and after it. A reply has at most `most_reply_bytes`. Raises
        UnknownName for a task that is not registered."""
        self.model = model
        self._most_reply_bytes = most_reply_bytes or sys.maxsize
        self._observers = observers
        manifest = model.manifest
        self._task = task or TASKS.get(manifest.task)(model)
        self._steps = steps
        self._outputs = tuple(spec.name for spec in manifest.outputs)
        self._deadlines = Deadlines()
        self._program_free = threading.Lock()
        # Handlers are written for one thread. `postprocess` runs while the program is held.
        self._steps_free = threading.Lock()
        self._headers = {
            "Shipway-Version": manifest.version,
            "Shipway-Artifact": model.artifact.digest,
            "Shipway-Program": model.program_name,
        }

    @property
    def may_wait(self) -> bool:
        """Whether reading a request may wait for something outside this process, as the code of a
        custom handler may."""
        return self._steps is not None

    def is_light(self, request: Request) -> bool:
        """Whether reading a request takes about as long as its size lets expect. Takes no time."""
        return self._task.is_light(request)

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply for each request, in order.

        A request that cannot be answered gets an error reply, and the others are answered.
        Raises only DeviceLost: this process cannot use its GPU any more.
        """
        now, start = time.time(), time.perf_counter()
        with self._program_free:  # also of the rows that `_decode` writes to its memory
            pending = [self._parse(request, now, start) for request in requests]
            self._decode([each for each in pending if each.inputs is not None])
            replies = self._finish(pending, now, start)
        self.tell(pending, replies)
        return replies

    def read(self, request: Request, received: float, start: float) -> PendingRequest:
        """Parses and decodes one request, for `finish`, while the program may be running.

        It arrived at `received`, in seconds since 1970, and at `start` by `time.perf_counter`. Its
        model must have been opened with `staged=False`.
        """
        pending = self._parse(request, received, start)
        if pending.inputs is not None:
            self._decode([pending])
        return pending

    def expected_ms(self, pending: PendingRequest) -> float:
        """How long the rows that have not run yet will take; 0 for a request that is refused."""
        if pending.error is not None:
            return 0.0
        return self.model.expected_ms(pending.rows[len(pending.results) :])

    def advance(self, pending: PendingRequest, within_ms: float) -> bool:
        """Runs some of the rows of a request that has not run, or not all, about `within_ms` of
        them. Returns whether nothing is left for it but `finish`. Raises DeviceLost."""
        with self._program_free:
            start = time.perf_counter()
            if pending.error is None:
                pending.error = self._deadlines.why_late(
                    pending.request, time.time(), pending.received
                )
            if pending.error is not None:
                return True
            left = pending.rows[len(pending.results) :]
            pending.results += self.model.run(left[: self.model.rows_within(left, within_ms)])
            pending.ran_ms += 1000 * (time.perf_counter() - start)
        return len(pending.results) == len(pending.rows)

    def finish(self, pending: Sequence[PendingRequest]) -> list[Reply]:
        """Runs the requests that `read` has read as one batch; a reply for each, in order.

        Those whose deadline has passed meanwhile are refused. Observers are told by `tell`. Raises
        DeviceLost as `answer` does.
        """
        with self._program_free:
            now, start = time.time(), time.perf_counter()
            for request in pending:
                waited_ms = 1000 * (start - request.start) - request.decode_ms
                request.waited_ms = waited_ms - request.ran_ms
                if request.error is None:
                    request.error = self._deadlines.why_late(request.request, now, request.received)
            return self._finish(pending, now, start)

    def _finish(self, pending: Sequence[PendingRequest], now: float, start: float) -> list[Reply]:
        running = [each for each in pending if each.error is None]
        left = [each.rows[len(each.results) :] for each in running]
        results = iter(self.model.run([row for rows in left for row in rows]))
        for each, rows in zip(running, left, strict=True):
            each.results += [next(results) for _ in rows]
            each.batches = list({id(row.batch): row.batch for row in each.results}.values())
        self._answer_together(running)
        replies = [self._reply(each) for each in pending]
        if running:
            self._deadlines.ran(time.perf_counter() - start, now)
        return replies

    def tell(self, pending: Sequence[PendingRequest], replies: Sequence[Reply]) -> None:
        """Tells observers of a batch that `finish` has finished. Its replies need not wait for
        them."""
        if not self._observers:
            return
        told = list(map(answered, pending, replies))
        for observer in self._observers:
            try:
                observer.observe(told)
            except Exception:  # a failure to count must not fail the answer
                logger.exception("recording the metrics of a batch failed")

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

    def _parse(self, request: Request, now: float, batch_start: float) -> PendingRequest:
        pending = PendingRequest(request, now, batch_start)
        start = time.perf_counter()
        try:
            self._deadlines.check(request, now)
            if self._steps is not None:
                with self._steps_free:
                    pending.request = request = self._steps.preprocess(request)
            value = request.fields.get("body")
            if request.protocol == "v1":
                pending.is_v1 = True
                read = v1.reader_of(self._task)
                pending.inputs = Inputs(each_of(read, v1.instances_of(request)), many=True)
            elif oip.is_v2(request, value := maybe_v2(request, value)):
                self._parse_v2(pending, request, value)
            else:
                pending.inputs = self._task.parse(request)
            if pending.inputs is not None:
                self._task.check_items(pending.inputs.items)
        except tuple(STATUS_OF) as error:
            pending.error, pending.inputs = error, None
        except Exception:
            logger.exception("a request could not be read")
            pending.inputs = None
            pending.error = InternalError(
                "The request could not be read. The server's log has the cause."
            )
        pending.decode_ms = 1000 * (time.perf_counter() - start)
        return pending

    def _parse_v2(self, pending: PendingRequest, request: Request, value: Any) -> None:
        pending.is_v2 = True
        pending.v2 = oip.parse_request(
            request,
            value,
            self.model.manifest.inputs,
            self._outputs,
            self._task.bytes_tensor,
        )
        if pending.v2.items:
            items = each_of(self._task.parse_bytes, pending.v2.items)
            pending.inputs = Inputs(items, many=True)
        else:
            self._task.check(pending.v2.arrays)
            pending.rows = list(zip(*pending.v2.arrays, strict=True))
            pending.notes = [None] * len(pending.rows)

    def _decode(self, pending: list[PendingRequest]) -> None:
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
                    each.error = placed(item, place) if each.inputs.many else item

    def _answer_together(self, running: Sequence[PendingRequest]) -> None:
        """Checks the outputs of all requests, and makes the task's answers, by one call for all.

        Where that is not possible, because a row failed or rows have different shapes, or because
        the task fails, it is left for each request to do.
        """
        results = [result for each in running for result in each.results]
        outputs = stacked(results) if results else None
        if outputs is None or not finite_rows(outputs, len(results)).all():
            return
        native: list[tuple[PendingRequest, int]] = []
        place = 0
        for each in running:
            rows = len(each.results)
            each.outputs = tuple(output[place : place + rows] for output in outputs)
            if each.v2 is None and not each.request.wants_binary:
                native.append((each, place))
            place += rows
        try:
            self._task_answers(native, outputs)
        except Exception:  # which request is to blame is found one by one
            logger.debug("the answers of a batch could not be made together", exc_info=True)

    def _task_answers(
        self, native: Sequence[tuple[PendingRequest, int]], outputs: tuple[np.ndarray, ...]
    ) -> None:
        if len(native) < 2:
            return  # nothing to share
        if sum(len(each.results) for each, _ in native) < len(outputs[0]):
            places = np.concatenate(
                [np.arange(place, place + len(each.results)) for each, place in native]
            )
            outputs = tuple(output[places] for output in outputs)
        notes = [note for each, _ in native for note in each.notes]
        answers = self._task.answers(outputs, notes)
        if len(answers) != len(notes):
            return
        done = 0
        for each, _ in native:
            each.answers = answers[done : done + len(each.results)]
            done += len(each.results)

    def _reply(self, pending: PendingRequest) -> Reply:
        start = time.perf_counter()
        try:
            if pending.error is None and pending.outputs is None:
                pending.error = error_of(pending.results)
            reply = self._written(pending) if pending.error is None else _refused(pending)
            if len(reply.body) > self._most_reply_bytes:
                pending.error = ReplyTooLarge(
                    f"The answer has {len(reply.body):,} bytes; at most {self._most_reply_bytes:,} "
                    "are sent (max_response_size). Send fewer rows in a request, or ask for a "
                    f"binary reply: Accept: {BINARY}."
                )
                reply = _refused(pending)
        except ReplyTooLarge as error:
            pending.error = error
            reply = _refused(pending)
        except Exception:
            logger.exception("an answer could not be written")
            pending.error = InternalError(
                "The answer could not be written. The server's log has the cause."
            )
            reply = _refused(pending)
        reply.headers |= self._headers
        pending.stages_ms = stages_of(pending, start)
        reply.headers["Server-Timing"] = server_timing(pending.stages_ms)
        if pending.batches:
            reply.headers["Shipway-Batch"] = str(max(each.rows for each in pending.batches))
        return reply

    def _written(self, pending: PendingRequest) -> Reply:
        """The answer to a request whose every row has finite outputs."""
        if pending.is_v1:
            return self._written_v1(pending)
        outputs = pending.outputs
        if outputs is None:
            outputs = padded(pending.results)
        if pending.v2 is not None or pending.request.wants_binary:
            v2 = pending.v2 or oip.InferRequest(id=None)
            if pending.request.wants_binary:
                v2 = oip.InferRequest(id=v2.id, outputs=v2.outputs)
            body, headers = oip.write_reply(
                self.model.manifest.name,
                self.model.manifest.version,
                v2,
                dict(zip(self._outputs, outputs, strict=True)),
                by_note(pending.notes),
            )
            return Reply(body, headers=headers)
        answers = pending.answers
        if answers is None:
            answers = self._task.answers(outputs, pending.notes)
        many = pending.inputs is not None and pending.inputs.many
        if not many and self._steps is None:
            for kind in self._task.other_types:
                if pending.request.prefers(kind):
                    written = self._task.written_as(answers[0], kind)
                    return Reply(written, headers={"content-type": kind})
        answers = self._as_json(answers)
        return Reply(encode(answers if many else answers[0]))

    def _as_json(self, answers: Sequence[Any]) -> Sequence[Any]:
        if self._task.other_types:
            answers = [self._task.as_json(answer) for answer in answers]
        if self._steps is not None:
            answers = [self._steps.postprocess(answer) for answer in answers]
        return answers

    def _written_v1(self, pending: PendingRequest) -> Reply:
        answers = pending.answers
        if answers is None:  # row by row, since instances may have different shapes
            answers = [
                answer
                for result, note in zip(pending.results, pending.notes, strict=True)
                for answer in self._task.answers(
                    tuple(each[None] for each in result.outputs), [note]
                )
            ]
        return Reply(encode({"predictions": self._as_json(answers)}))


def _refused(pending: PendingRequest) -> Reply:
    assert pending.error is not None
    return refusal(pending.error, v2=pending.is_v2 or pending.is_v1)
