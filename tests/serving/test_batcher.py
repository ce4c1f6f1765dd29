"""Batches that start when the program is free."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from shipway.payloads.errors import ClientGone
from shipway.payloads.request import Request
from shipway.runtime.backends.errors import DeviceLost
from shipway.serving.batcher import (
    INLINE_BYTES,
    INLINE_READ_MS,
    INLINE_RUN_MS,
    SLICE_MS,
    Batcher,
)
from shipway.serving.progress import ProgressFile, read_progress
from shipway.serving.replies import Reply


@dataclass
class Read:
    """A request that was read."""

    id: str
    rows: list[int]
    error: Exception | None = None
    results: list[int] = field(default_factory=list)


class Slow:
    """A service whose reading and running take a time, and which notes what it did, and where."""

    def __init__(self, read_s: float = 0.0, run_s: float = 0.0) -> None:
        self.read_s, self.run_s = read_s, run_s
        self.row_ms = 0.01
        self.may_wait = True  # it sleeps
        self.batches: list[list[str]] = []
        self.told: list[list[str]] = []
        self.threads: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: BaseException | None = None

    def is_light(self, request: Request) -> bool:
        return not request.id.startswith("heavy")

    def read(self, request: Request, received: float, start: float) -> Any:
        assert abs(received - time.time()) < 60 and start <= time.perf_counter()
        time.sleep(self.read_s)
        return Read(request.id, [0] * (1000 if request.id.startswith("many") else 1))

    def expected_ms(self, pending) -> float:
        return self.row_ms * (len(pending.rows) - len(pending.results))

    def advance(self, pending, within_ms) -> bool:
        count = max(1, int(within_ms / self.row_ms))
        time.sleep(self.row_ms * count / 1000)
        pending.results += [0] * min(count, len(pending.rows) - len(pending.results))
        self.batches.append([f"part of {pending.id}"])
        if self.error:
            raise self.error
        return len(pending.results) == len(pending.rows)

    def finish(self, pending) -> list[Reply]:
        assert self.gate.wait(10)
        time.sleep(self.run_s)
        self.batches.append([each.id for each in pending])
        self.threads.append(threading.current_thread().name.partition("_")[0])
        if self.error:
            raise self.error
        return [Reply(each.id.encode()) for each in pending]

    def tell(self, pending, replies) -> None:
        self.told.append([each.id for each in pending])
        assert [each.id.encode() for each in pending] == [reply.body for reply in replies]


@pytest.fixture
def progress(tmp_path):
    return ProgressFile(tmp_path / "progress")


def run(
    service: Slow,
    progress: ProgressFile,
    during: Callable[[Batcher, list[Reply]], Awaitable[None]],
    lost: list[BaseException] | None = None,
    **settings: int,
) -> list[Reply]:
    """The replies, in the order in which they came, when `during` is done."""
    replies: list[Reply] = []

    async def main() -> None:
        limits = {"batch_size": 4, "most_waiting": 100, "readers": 2} | settings
        losses = [] if lost is None else lost
        batcher = Batcher(
            service, asyncio.get_running_loop(), progress=progress, lost=losses.append, **limits
        )
        await during(batcher, replies)
        assert batcher.unanswered == 0

    asyncio.run(main())
    return replies


async def until(replies: list[Reply], count: int) -> None:
    deadline = time.monotonic() + 10
    while len(replies) < count:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def submit(batcher: Batcher, replies: list[Reply], *names: str, body_bytes: int = 10) -> None:
    for name in names:
        batcher.submit(Request({}, {}, name), body_bytes, replies.append)


async def after_twenty(batcher: Batcher, replies: list[Reply]) -> None:
    """Small requests, one after the other, by which the batcher learns how long they take."""
    for number in range(20):
        submit(batcher, replies, str(number))
        await until(replies, number + 1)


async def learned(batcher: Batcher) -> None:
    """More of them, where other programs made some of the first ones slow."""
    replies: list[Reply] = []
    while batcher._read_ms.value > INLINE_READ_MS / 2 or batcher._row_ms.value > INLINE_RUN_MS / 2:
        submit(batcher, replies, "more")
        await until(replies, len(replies) + 1)
        assert len(replies) < 1000


def test_a_lone_request_waits_for_nobody_and_what_comes_meanwhile_is_the_next_batch(progress):
    service = Slow()

    async def during(batcher, replies):
        service.gate.clear()
        submit(batcher, replies, "a")
        while not batcher._running:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        submit(batcher, replies, *"bcdefg")
        await asyncio.sleep(0.05)
        service.gate.set()
        await until(replies, 7)

    replies = run(service, progress, during, readers=1)
    assert service.batches == [["a"], [*"bcde"], [*"fg"]]
    assert [each.body.decode() for each in replies] == [*"abcdefg"]


def test_what_takes_no_time_stays_in_the_loops_thread(progress):
    service = Slow()

    async def during(batcher, replies):
        for number in range(50):
            submit(batcher, replies, str(number))
            await until(replies, number + 1)

    run(service, progress, during)
    assert service.threads[0] == "run" and service.threads[-1] == "MainThread"


def test_many_rows_are_run_in_another_thread(progress):
    service = Slow()

    async def during(batcher, replies):
        await after_twenty(batcher, replies)
        await learned(batcher)
        submit(batcher, replies, "many rows")
        await until(replies, 21)

    run(service, progress, during)
    assert service.threads[-2:] == ["MainThread", "run"]


def test_a_reply_that_cannot_be_sent_stops_no_other(progress, caplog):
    async def during(batcher, replies):
        def broken(reply: Reply) -> None:
            raise ValueError("the client is gone")

        batcher.submit(Request({}, {}, "a"), 10, broken)
        submit(batcher, replies, "b", "c")
        await until(replies, 2)

    run(Slow(), progress, during)
    assert "the client is gone" in caplog.text


def test_what_takes_long_leaves_the_loops_thread_free(progress):
    service = Slow(read_s=0.01, run_s=0.02)
    gaps: list[float] = []

    async def during(batcher, replies):
        submit(batcher, replies, *map(str, range(20)))
        while len(replies) < 20:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            gaps.append(time.perf_counter() - before)

    run(service, progress, during, readers=4)
    assert set(service.threads) == {"run"}
    assert sorted(gaps)[len(gaps) // 2] < 0.005


def test_a_large_body_is_read_in_another_thread(progress):
    threads: list[str] = []

    class Noting(Slow):
        def read(self, request, received, start):
            threads.append(threading.current_thread().name.partition("_")[0])
            return super().read(request, received, start)

    async def during(batcher, replies):
        await after_twenty(batcher, replies)
        await learned(batcher)
        submit(batcher, replies, "large", body_bytes=INLINE_BYTES)
        await until(replies, 21)

    run(Noting(), progress, during)
    assert threads[-2:] == ["MainThread", "read"]


class Busy(Slow):
    """Reading takes a core for a tenth of a millisecond a kilobyte, and lets others run once."""

    def __init__(self) -> None:
        super().__init__()
        self.may_wait = False
        self.read_in: list[str] = []

    def read(self, request, received, start):
        time.sleep(0)  # as decoders do, which do not need the interpreter
        end = time.thread_time() + 0.0001 * int(request.fields.get("kilobytes", 1))
        while time.thread_time() < end:
            pass
        self.read_in.append(threading.current_thread().name.partition("_")[0])
        return Read(request.id, [0])


def test_waiting_for_the_interpreters_lock_keeps_no_request_in_a_thread(progress):
    service, over = Busy(), threading.Event()

    def hog() -> None:
        while not over.is_set():
            pass

    async def during(batcher, replies):
        await after_twenty(batcher, replies)
        over.set()

    others = [threading.Thread(target=hog) for _ in range(2)]
    for each in others:
        each.start()
    try:
        run(service, progress, during)
    finally:
        over.set()
        for each in others:
            each.join()
    assert service.read_in[0] == "read" and service.read_in[-1] == "MainThread"


def test_a_body_larger_than_the_others_is_expected_to_take_longer(progress):
    service = Busy()

    async def during(batcher, replies):
        for number in range(20):
            submit(batcher, replies, str(number), body_bytes=1000)
            await until(replies, number + 1)
        large = Request({"kilobytes": 60}, {}, "large")
        batcher.submit(large, 60_000, replies.append)
        await until(replies, 21)

    run(service, progress, during)
    assert service.read_in[-2:] == ["MainThread", "read"]


def test_what_may_hold_more_than_its_size_says_is_read_in_another_thread(progress):
    service = Busy()

    async def during(batcher, replies):
        await after_twenty(batcher, replies)
        submit(batcher, replies, "heavy")
        await until(replies, 21)

    run(service, progress, during)
    assert service.read_in[-2:] == ["MainThread", "read"]


def test_requests_beyond_the_limit_are_refused_at_once(progress):
    service = Slow()

    async def during(batcher, replies):
        service.gate.clear()
        submit(batcher, replies, *map(str, range(10)))
        assert [each.status for each in replies] == [503] * 4
        assert replies[0].headers["Retry-After"] == "1"
        service.gate.set()
        await until(replies, 10)

    run(service, progress, during, batch_size=2, most_waiting=4)


def test_a_batch_that_fails_is_answered_and_the_next_one_runs(progress, caplog):
    service = Slow()

    async def during(batcher, replies):
        service.error = ValueError("broken")
        submit(batcher, replies, "a", "b")
        await until(replies, 2)
        service.error = None
        submit(batcher, replies, "c")
        await until(replies, 3)

    replies = run(service, progress, during)
    assert [each.status for each in replies] == [500, 500, 200]
    assert "broken" in caplog.text


def test_a_request_that_cannot_be_read_is_answered(progress, caplog):
    class Broken(Slow):
        def read(self, request, received, start):
            if request.id == "broken":
                raise ValueError("a fault in a task")
            return super().read(request, received, start)

    async def during(batcher, replies):
        submit(batcher, replies, "broken", "a")
        await until(replies, 2)
        submit(batcher, replies, "broken", "b")
        await until(replies, 4)

    replies = run(Broken(), progress, during)
    assert sorted(each.status for each in replies) == [200, 200, 500, 500]
    assert "a fault in a task" in caplog.text


@pytest.mark.parametrize("error", [DeviceLost("gone"), SystemExit(1)], ids=["device", "exit"])
def test_what_ends_a_worker_is_told(progress, error):
    service = Slow()
    service.error = error
    lost: list[BaseException] = []

    async def during(batcher, replies):
        submit(batcher, replies, "a")
        while not lost:
            await asyncio.sleep(0.001)
        batcher._unanswered = 0  # the process would have ended

    run(service, progress, during, lost)


def test_the_batch_that_runs_is_in_the_file_of_progress(progress, tmp_path):
    service = Slow()

    async def during(batcher, replies):
        service.gate.clear()
        submit(batcher, replies, "a")
        await asyncio.sleep(0.05)
        assert read_progress(tmp_path / "progress").batch_began > 0
        service.gate.set()
        await until(replies, 1)
        assert read_progress(tmp_path / "progress").batch_began == 0

    run(service, progress, during)


def test_observers_are_told_of_each_request_once_its_reply_has_left(progress):
    service = Slow()
    before: list[bool] = []

    async def during(batcher, replies):
        service.gate.clear()
        submit(batcher, replies, "a")
        while not batcher._running:
            await asyncio.sleep(0.001)
        submit(batcher, replies, *"bc")
        tell = service.tell

        def told(pending, answers) -> None:
            tell(pending, answers)
            before.append(len(replies) >= sum(map(len, service.told)))

        service.tell = told
        await asyncio.sleep(0.05)
        service.gate.set()
        await until(replies, 3)
        await asyncio.sleep(0.01)

    run(service, progress, during, readers=1)
    assert service.batches == [["a"], [*"bc"]]
    assert [each for told in service.told for each in told] == [*"abc"]
    assert all(before)


def test_observers_are_told_of_many_small_batches_together(progress):
    service = Slow()

    async def during(batcher, replies):
        await after_twenty(batcher, replies)
        await asyncio.sleep(0.05)

    run(service, progress, during)
    assert len(service.batches) == 20
    assert [each for told in service.told for each in told] == [str(each) for each in range(20)]
    assert len(service.told) < 20


def test_observers_are_not_told_of_a_batch_that_failed(progress):
    service = Slow()
    service.error = ValueError("a fault of ours")

    async def during(batcher, replies):
        submit(batcher, replies, "a")
        await until(replies, 1)
        await asyncio.sleep(0.01)

    [reply] = run(service, progress, during)
    assert reply.status == 500 and service.told == []


def test_a_request_that_takes_long_is_run_in_parts_between_the_others(progress):
    service = Slow()
    service.row_ms = 0.25  # 1,000 rows take 250 ms
    waits: list[float] = []

    async def during(batcher, replies):
        submit(batcher, replies, "many")
        await asyncio.sleep(0.02)
        for number in range(3):
            began = time.perf_counter()
            before = len(replies)
            submit(batcher, replies, f"small {number}")
            await until(replies, before + 1)
            waits.append(time.perf_counter() - began)
        await until(replies, 4)

    replies = run(service, progress, during)
    assert replies[-1].body == b"many"
    assert max(waits) < 2.5 * SLICE_MS / 1000
    assert service.batches[:4] == [["part of many"], ["small 0"], ["part of many"], ["small 1"]]
    assert service.batches.count(["part of many"]) == 4 and service.batches[-1] == ["many"]


def test_two_requests_that_take_long_take_turns(progress):
    service = Slow()
    service.row_ms = 0.15

    async def during(batcher, replies):
        submit(batcher, replies, "many a", "many b")
        await until(replies, 2)

    run(service, progress, during, readers=1)
    parts = [first for first, *_ in service.batches if first.startswith("part")]
    both = parts[parts.index("part of many b") :]  # from when the second was read, too
    assert both[:3] == ["part of many b", "part of many a", "part of many b"]


def test_a_short_request_waits_for_one_part_however_many_long_ones_there_are(progress):
    service = Slow()
    service.row_ms = 0.15

    async def during(batcher, replies):
        submit(batcher, replies, *(f"many {each}" for each in "abcd"))
        while not service.batches:
            await asyncio.sleep(0.001)
        submit(batcher, replies, "small")
        await until(replies, 5)

    replies = run(service, progress, during, readers=1)
    assert replies[0].body == b"small"
    assert service.batches.index(["small"]) <= 2


def test_what_nobody_waits_for_is_not_run_any_more(progress):
    service = Slow()
    service.row_ms = 0.15
    gone = threading.Event()
    noted: list[Exception | None] = []

    def finish(pending) -> list[Reply]:
        noted.extend(each.error for each in pending)
        return Slow.finish(service, pending)

    def advance(pending, within_ms) -> bool:
        return pending.error is not None or Slow.advance(service, pending, within_ms)

    service.finish, service.advance = finish, advance

    async def during(batcher, replies):
        long = Request({}, {}, "many")
        batcher.submit(long, 10, replies.append, lambda: not gone.is_set())
        while not service.batches:
            await asyncio.sleep(0.001)
        gone.set()
        await until(replies, 1)
        batcher.submit(Request({}, {}, "small"), 10, replies.append, lambda: False)
        await until(replies, 2)

    run(service, progress, during)
    assert service.batches.count(["part of many"]) <= 2
    assert [type(each) for each in noted] == [ClientGone, ClientGone]


def test_a_batch_is_no_longer_than_its_bound(progress):
    service = Slow()
    service.row_ms = 40.0

    async def during(batcher, replies):
        service.gate.clear()
        submit(batcher, replies, "a")
        while not batcher._running:
            await asyncio.sleep(0.001)
        submit(batcher, replies, *"bcdef")
        await asyncio.sleep(0.05)
        service.gate.set()
        await until(replies, 6)

    run(service, progress, during, readers=1)  # several may be done in any order
    assert service.batches == [["a"], ["b", "c"], ["d", "e"], ["f"]]


@pytest.mark.parametrize("error", [ValueError("no"), DeviceLost("gone")])
def test_a_part_that_fails_fails_its_request_alone(progress, error):
    service = Slow()
    service.row_ms = 0.25
    lost: list[BaseException] = []

    async def during(batcher, replies):
        service.error = error
        submit(batcher, replies, "many")
        while not service.batches:
            await asyncio.sleep(0.001)
        service.error = None
        if isinstance(error, DeviceLost):
            while not lost:
                await asyncio.sleep(0.001)
            batcher._unanswered = 0  # the process ends
            return
        submit(batcher, replies, "small")
        await until(replies, 2)

    run(service, progress, during, lost)
    assert bool(lost) == isinstance(error, DeviceLost)
