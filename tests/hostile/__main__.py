"""Requests that cost as much as they can, one of each kind, to a real server: how long the small
request of a neighbour waits meanwhile, what memory the worker takes, and whether it lives.

python -m tests.hostile --images MAR [--texts MAR] [--every N] [--only WORDS …]
"""

import argparse
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.study import at_least, at_most, exit_on_sigterm, finish
from shipway.archive.inspect import inspect_mar
from shipway.engines.torchserve.tokens import bearer
from shipway.payloads.request import JSON
from tests.fuzz.fuzz_server import memory_mb, serving, wrong
from tests.hostile import bombs
from tests.hostile.kinds import TABLE, TENSORS, TEXTS, Kind, kinds
from tests.servers import RunningServer

NEIGHBOUR_WITHIN_MS = 250.0
MOST_MEMORY_MB = 400.0
ANSWERED_WITHIN_S = 140.0
"""Every request has an answer by then; one that is large may take its time."""
PAUSE_S = 0.01
"""Between a neighbour's requests."""
AROUND_S = 0.3
"""How long the neighbour asks before and after the request."""
RESET_PEAK = "5"
"""proc_pid_clear_refs(5): the peak of the resident memory is what it is now."""
console = Console(width=150, highlight=False)


@dataclass(slots=True)
class Seen:
    """What a request did."""

    statuses: list[str] = field(default_factory=list)
    took_s: float = 0.0
    waits_ms: list[float] = field(default_factory=list)
    """Of the neighbour's requests."""
    memory_mb: float = 0.0
    """The most that the worker had above its idle state."""
    complaints: list[str] = field(default_factory=list)
    is_load: bool = False
    """Whether many were sent at once: neither bound is for these."""

    @property
    def p99_ms(self) -> float:
        """Of the neighbour's waits."""
        if len(self.waits_ms) < 2:
            return max(self.waits_ms, default=float("inf"))
        return statistics.quantiles(self.waits_ms, n=100, method="inclusive")[98]

    @property
    def is_kept(self) -> bool:
        """Whether it did no harm."""
        bounded = self.p99_ms <= NEIGHBOUR_WITHIN_MS and self.memory_mb <= MOST_MEMORY_MB
        return not self.complaints and (bounded or self.is_load)


class Site:
    """A server, its models, and small requests to each."""

    def __init__(self, server: RunningServer, images: str, texts: str) -> None:
        self._server = server
        addresses = server.record.addresses
        host, _, port = addresses.inference.removeprefix("http://").partition(":")
        self._address = host, int(port)
        self._grpc = addresses.grpc_inference
        self._token = bearer(server.tokens.get("inference"))
        picture = bombs.encoded(bombs.smooth(64), "JPEG")
        self._small = {
            TENSORS: (JSON, b'{"x": [[1, 2, 3]]}'),
            TABLE: (JSON, b"[0.0, 9.0, 1.0]"),
            texts: ("text/plain", b"a ship at sea"),
            images: ("image/jpeg", picture),
        }
        self._workers = self._pids()
        self._idle_mb: dict[int, float] = {}
        """Of each worker before the first of these requests."""

    def _pids(self) -> dict[str, tuple[int, ...]]:
        return {each.name: each.worker_pids for each in self._server.management.models()}

    def try_kind(self, kind: Kind) -> Seen:
        """Sends a request while a neighbour sends small ones."""
        body, seen = kind.body(), Seen(is_load=kind.times > 1)
        [worker] = self._workers[kind.model]
        Path(f"/proc/{worker}/clear_refs").write_text(RESET_PEAK)
        idle_mb = self._idle_mb.setdefault(worker, memory_mb(worker, "VmRSS"))
        with self._neighbour(kind.model, seen):
            time.sleep(AROUND_S)
            began = time.perf_counter()
            with ThreadPoolExecutor(kind.times) as pool:
                answers = list(pool.map(lambda _: self._send(kind, body), range(kind.times)))
            seen.took_s = time.perf_counter() - began
            time.sleep(AROUND_S)
        seen.statuses = sorted({status for status, _ in answers})
        seen.complaints += sorted({complaint for _, complaint in answers if complaint})
        if self._pids() != self._workers:
            seen.complaints.append("a worker died")
            self._wait_for_workers()
        else:
            seen.memory_mb = memory_mb(worker, "VmHWM") - idle_mb
        return seen

    def _wait_for_workers(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self._workers = self._pids()
            if all(pid > 0 for pids in self._workers.values() for pid in pids):
                return
            time.sleep(0.2)

    def _send(self, kind: Kind, body: bytes) -> tuple[str, str | None]:
        """The status of the answer, and what is not as documented."""
        try:
            if kind.over == "grpc":
                return self._call(kind, body)
            connection = HTTPConnection(*self._address, timeout=ANSWERED_WITHIN_S)
            path = kind.path or f"/predictions/{kind.model}"
            connection.request("POST", path, body, kind.headers | self._token)
            reply = connection.getresponse()
            content = reply.read()
            connection.close()
        except (OSError, HTTPException) as error:
            return "none", f"no answer: {error!r}"
        complaint = wrong(kind.headers.get("content-type", ""), reply.status, content)
        expected = reply.status in TOLD_BY_ENVOY or (reply.status == 503 and kind.times > 1)
        return str(reply.status), None if expected else complaint

    def _call(self, kind: Kind, body: bytes) -> tuple[str, str | None]:
        metadata = tuple((name.lower(), value) for name, value in self._token.items())
        with grpc.insecure_channel(self._grpc) as channel:
            try:
                channel.unary_unary(kind.path)(body, metadata=metadata, timeout=ANSWERED_WITHIN_S)
            except grpc.RpcError as error:
                code = error.code()
                harmful = code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
                return code.name, f"{code.name}: {error.details()}" if harmful else None
        return "OK", None

    @contextmanager
    def _neighbour(self, model: str, seen: Seen) -> Iterator[None]:
        kind, body = self._small[model]
        over = threading.Event()

        def ask() -> None:
            connection = HTTPConnection(*self._address, timeout=ANSWERED_WITHIN_S)
            headers = {"content-type": kind} | self._token
            while not over.is_set():
                began = time.perf_counter()
                try:
                    connection.request("POST", f"/predictions/{model}", body, headers)
                    reply = connection.getresponse()
                    reply.read()
                    told = "" if reply.status == 200 else f"a neighbour got {reply.status}"
                except (OSError, HTTPException) as error:
                    told = f"a neighbour got no answer: {error!r}"
                    connection.close()
                seen.waits_ms.append(1000 * (time.perf_counter() - began))
                if told and told not in seen.complaints:
                    seen.complaints.append(told)
                time.sleep(PAUSE_S)
            connection.close()

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


TOLD_BY_ENVOY = (413, 431)
"""Of a body or headers over the limit: Envoy tells these in its own form."""


def measured(site: Site, kind: Kind) -> Seen:
    """What a kind does; of one that seems to harm a neighbour, the middle of three attempts, since
    another program may have had the machine for a moment."""
    seen = site.try_kind(kind)
    if seen.is_kept or seen.complaints:
        return seen
    return sorted([seen, site.try_kind(kind), site.try_kind(kind)], key=lambda each: each.p99_ms)[1]


def show(rows: Sequence[tuple[Kind, Seen]]) -> None:
    """One row for each kind."""
    table = Table("request", "before", "answer", "took", "neighbour p99", "memory", "")
    for kind, seen in rows:
        table.add_row(
            kind.name,
            kind.before,
            " ".join(seen.statuses),
            f"{seen.took_s:.2f} s",
            f"{seen.p99_ms:.0f} ms",
            f"{seen.memory_mb:.0f} MB",
            "✓" if seen.is_kept else "; ".join(seen.complaints)[:300] or "✗",
        )
    limits = f"limits: {NEIGHBOUR_WITHIN_MS:.0f} ms, {MOST_MEMORY_MB:.0f} MB"
    console.print(table)
    console.print(f"{len(rows)} kinds; {limits}")


def main() -> None:
    """Prints the table; its last line is JSON."""
    exit_on_sigterm()
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=Path, required=True, help="an archive for images")
    parser.add_argument("--texts", type=Path, help="an archive for texts; by default a small model")
    parser.add_argument("--every", type=int, default=1, help="each N-th kind only")
    parser.add_argument(
        "--only", nargs="+", default=[""], help="kinds whose name contains one of these"
    )
    parser.add_argument("--front", choices=("on", "off"), default="on")
    chosen = parser.parse_args()
    archives = [path for path in (chosen.images, chosen.texts) if path]
    images = inspect_mar(chosen.images).name
    texts = inspect_mar(chosen.texts).name if chosen.texts else TEXTS
    found = [
        each for each in kinds(images, texts) if any(words in each.name for words in chosen.only)
    ][:: chosen.every]
    with (
        TemporaryDirectory() as folder,
        serving(Path(folder), archives, front=chosen.front) as server,
    ):
        site = Site(server, images, texts)
        for kind in kinds(images, texts)[:1]:  # connections and threads are there from now on
            site.try_kind(kind)
        rows: list[tuple[Kind, Seen]] = []
        try:
            for kind in track(found, "hostile requests", console=console):
                rows.append((kind, measured(site, kind)))
        finally:  # also of what was done before Ctrl-C
            show(rows)
    single = [seen for _, seen in rows if not seen.is_load]
    finish(
        {
            "kinds": at_least(len(rows), 1),
            "neighbour_p99_ms": at_most(
                round(max(seen.p99_ms for seen in single), 1), NEIGHBOUR_WITHIN_MS
            ),
            "worker_memory_mb": at_most(
                round(max(seen.memory_mb for seen in single), 1), MOST_MEMORY_MB
            ),
            "not_as_documented": at_most(sum(bool(seen.complaints) for _, seen in rows), 0),
        }
    )


if __name__ == "__main__":
    main()
