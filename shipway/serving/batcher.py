"""Batches without a delay: one starts when the program is free, with the requests that are there.

Requests are read and decoded while the program runs. A lone client waits for nobody, and under load
batches form by themselves.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from shipway.payloads.errors import ClientGone, InternalError
from shipway.payloads.request import Request
from shipway.runtime.backends.errors import DeviceLost
from shipway.serving.http1 import Answer, failed
from shipway.serving.pending import PendingRequest
from shipway.serving.progress import ProgressFile
from shipway.serving.replies import Reply, refused_by_server
from shipway.serving.statuses import TOO_MANY_WAIT

T = TypeVar("T")

logger = logging.getLogger(__name__)

INLINE_BYTES = 64 * 1024
"""Larger bodies are read in another thread, whatever the others took."""
INLINE_READ_MS = 0.5
"""A request that is expected to be read in less is read in the event loop's thread: handing it to
another thread and back takes a tenth of a millisecond, and more where threads have to wait for a
core or for the interpreter's lock."""
INLINE_ROWS = 64
"""A batch with more rows is run in another thread, whatever the others took."""
INLINE_RUN_MS = 3.0
"""The same for a batch. It may take longer than a request, since it ends the waiting of many."""
SLICE_MS = 50.0
"""A request that takes longer is run in parts of about this time, between other requests."""
BATCH_MS = 100.0
"""A batch of several requests takes no longer than about this time, so that what comes meanwhile
does not wait for all of them."""
TELL_AFTER_S = 0.002
"""How long observers wait for what they are told, which takes them less for several batches at once
than for each: with small batches it was a tenth of a worker's time."""
WEIGHT = 0.1
"""Of the newest measurement in the running mean."""


class Reader(Protocol):
    """What the batcher needs of a `Service`."""

    @property
    def may_wait(self) -> bool:
        """See `Service`."""
        ...

    def is_light(self, request: Request) -> bool:
        """See `Service`."""
        ...

    def read(self, request: Request, received: float, start: float) -> PendingRequest:
        """See `Service`."""
        ...

    def expected_ms(self, pending: PendingRequest) -> float:
        """See `Service`."""
        ...

    def advance(self, pending: PendingRequest, within_ms: float) -> bool:
        """See `Service`."""
        ...

    def finish(self, pending: Sequence[PendingRequest]) -> list[Reply]:
        """See `Service`."""
        ...

    def tell(self, pending: Sequence[PendingRequest], replies: Sequence[Reply]) -> None:
        """See `Service`."""
        ...


@dataclass(slots=True)
class _Waiting:
    """A request that was read."""

    pending: PendingRequest
    answer: Answer
    is_wanted: Callable[[], bool]
    """Whether somebody still waits for the reply."""
    expected_ms: float
    """What is left of it to run."""


class Batcher:
    """Answers the requests of one model. Its methods run in the event loop's thread."""

    def __init__(
        self,
        service: Reader,
        loop: asyncio.AbstractEventLoop,
        *,
        batch_size: int,
        most_waiting: int,
        readers: int,
        progress: ProgressFile,
        lost: Callable[[DeviceLost | SystemExit], None],
    ) -> None:
        """`batch_size` and `most_waiting` count requests. `readers` is the number of threads that
        decode. `lost` is called if the program's device cannot be used any more, or if the program
        exits."""
        self._service = service
        self._loop = loop
        self._batch_size = batch_size
        self._most_waiting = most_waiting
        self._lost = lost
        self._progress = progress
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="read")
        self._runner = ThreadPoolExecutor(1, thread_name_prefix="run")
        self._read_ms, self._read_bytes, self._row_ms = _Mean(), _Mean(), _Mean()
        self._ready: deque[_Waiting] = deque()
        self._long: deque[_Waiting] = deque()
        """Those that are run in parts: one part, then a batch of the others, and so on."""
        self._part_is_next = False
        self._untold: list[tuple[PendingRequest, Reply]] = []
        self._unanswered = 0
        self._running = False

    @property
    def unanswered(self) -> int:
        """Requests that have no reply yet."""
        return self._unanswered

    def submit(
        self,
        request: Request,
        body_bytes: int,
        answer: Answer,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Answers a request, or refuses it with 503 if too many wait. It is not run any more when
        it is not `is_wanted`."""
        if self._unanswered >= self._most_waiting + self._batch_size:
            answer(
                refused_by_server(
                    503,
                    "ServiceUnavailableException",
                    f"More than {self._most_waiting} {TOO_MANY_WAIT}. Send it again later.",
                    {"Retry-After": "1"},
                )
            )
            return
        self._unanswered += 1
        received, start = time.time(), time.perf_counter()
        if (
            body_bytes < INLINE_BYTES
            and self._expected_read_ms(body_bytes) < INLINE_READ_MS
            and self._service.is_light(request)
        ):
            self._put(self._read(request, body_bytes, received, start), answer, is_wanted)
            return
        reading = self._readers.submit(self._read, request, body_bytes, received, start)
        self._then(reading, lambda pending: self._put(pending, answer, is_wanted))

    def _expected_read_ms(self, body_bytes: int) -> float:
        """As long as the others took, and longer in proportion for a larger body."""
        return self._read_ms.value * max(1.0, body_bytes / max(1.0, self._read_bytes.value))

    def _read(
        self, request: Request, body_bytes: int, received: float, start: float
    ) -> PendingRequest | None:
        began, busy_from = time.perf_counter(), time.thread_time()
        try:
            pending = self._service.read(request, received, start)
        except Exception:  # a task should raise none
            logger.exception("a request could not be read")
            return None
        if pending.error is None:  # refusals take less, and say nothing of what is answered
            took = time.perf_counter() - began
            if len(pending.rows) == 1 and not self._service.may_wait:
                # In a thread of its own a request also waits for a core and for the interpreter's
                # lock. Counted, that would keep small requests in threads for as long as others
                # are there. The rows of a larger one may be read by several threads.
                took = time.thread_time() - busy_from
            self._read_ms.add(1000 * took)
            self._read_bytes.add(body_bytes)
        return pending

    def _put(
        self, pending: PendingRequest | None, answer: Answer, is_wanted: Callable[[], bool]
    ) -> None:
        if pending is None:
            self._unanswered -= 1
            answer(failed("The request could not be read."))
            return
        expected_ms = self._service.expected_ms(pending)
        waiting = _Waiting(pending, answer, is_wanted, expected_ms)
        (self._long if expected_ms > SLICE_MS else self._ready).append(waiting)
        if not self._running:
            self._running = True
            # After all that has arrived by now has been read.
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._progress.begin()
        if self._long and (self._part_is_next or not self._ready):
            self._part_is_next = False
            first = self._long.popleft()
            _drop_unwanted(first)
            advancing = self._runner.submit(self._advance, first.pending)
            self._then(advancing, lambda done: self._advanced(first, done))
            return
        self._part_is_next = True
        batch = [self._ready.popleft()]
        left_ms = BATCH_MS - batch[0].expected_ms
        while self._ready and len(batch) < self._batch_size:
            left_ms -= self._ready[0].expected_ms
            if left_ms < 0:
                break
            batch.append(self._ready.popleft())
        for each in batch:
            _drop_unwanted(each)
        pending = [each.pending for each in batch]
        rows = sum(len(each.rows) for each in pending)
        if rows <= INLINE_ROWS and rows * self._row_ms.value < INLINE_RUN_MS:
            self._finished(batch, *self._run(pending))
            return
        running = self._runner.submit(self._run, pending)
        self._then(running, lambda finished: self._finished(batch, *finished))

    def _advance(self, pending: PendingRequest) -> bool:
        """Runs some rows of a request with many. Returns whether all have run."""
        try:
            return self._service.advance(pending, SLICE_MS)
        except (DeviceLost, SystemExit) as error:  # which would end this thread alone
            self._lost(error)
            raise
        except Exception:
            logger.exception("a part of a request failed")
            pending.error = InternalError("The request failed. The server's log has the cause.")
            return True

    def _advanced(self, waiting: _Waiting, done: bool) -> None:
        self._progress.end()
        if done:
            waiting.expected_ms = 0.0
            self._ready.appendleft(waiting)
        else:
            waiting.expected_ms = self._service.expected_ms(waiting.pending)
            (self._long if waiting.expected_ms > SLICE_MS else self._ready).append(waiting)
        self._loop.call_soon(self._start)

    def _run(self, pending: Sequence[PendingRequest]) -> tuple[Sequence[Reply], bool]:
        """The replies of a batch, and whether it ran."""
        ran = True
        rows = sum(len(each.rows) - len(each.results) for each in pending)
        began = time.perf_counter()
        try:
            replies = self._service.finish(pending)
        except (DeviceLost, SystemExit) as error:  # which would end this thread alone
            self._lost(error)
            raise
        except Exception:
            logger.exception("a batch failed")
            replies, ran = [failed("The batch failed.") for _ in pending], False
        if rows:
            self._row_ms.add(1000 * (time.perf_counter() - began) / rows)
        return replies, ran

    def _finished(self, batch: Sequence[_Waiting], replies: Sequence[Reply], ran: bool) -> None:
        self._progress.end()
        self._unanswered -= len(batch)
        for waiting, reply in zip(batch, replies, strict=True):
            try:
                waiting.answer(reply)
            except Exception:  # the others, and the next batch, must not wait for this one
                logger.exception("a reply could not be sent")
        if ran:
            if not self._untold:
                self._loop.call_later(TELL_AFTER_S, self._tell)
            self._untold += zip((each.pending for each in batch), replies, strict=True)
        if self._ready or self._long:
            self._loop.call_soon(self._start)
        else:
            self._running = False

    def _tell(self) -> None:
        """Tells observers of the batches since the last time."""
        told, self._untold = self._untold, []
        self._service.tell([pending for pending, _ in told], [reply for _, reply in told])

    def _then(self, work: Future[T], go_on: Callable[[T], None]) -> None:
        """Calls a function in the event loop's thread with what another thread returns. What that
        raises has ended this process (`lost`), or is about to."""

        def done(work: Future[T]) -> None:
            if work.exception() is None:
                self._loop.call_soon_threadsafe(go_on, work.result())

        work.add_done_callback(done)


def _drop_unwanted(waiting: _Waiting) -> None:
    """Lets nothing be run for a client that has gone."""
    if waiting.pending.error is None and not waiting.is_wanted():
        waiting.pending.error = ClientGone("The client disconnected before it had the answer.")


class _Mean:
    """A running mean, in which the newest values count most; infinite before the first."""

    def __init__(self) -> None:
        self.value = float("inf")

    def add(self, newest: float) -> None:
        """Counts a measurement."""
        before = newest if self.value == float("inf") else self.value
        self.value = before + WEIGHT * (newest - before)
