"""Half of a server's capacity for a long time, and beside it a client that is hostile for a tenth
of the time: does anything fail, restart or grow?

python -m tests.hostile.soak [--mar MAR] [--minutes 60]

The hostile client sends one kind after the other of tests/hostile/kinds.py to the same model, and
after each pauses for nine times as long as it took. Targets as those of benchmarks/soak.py, but
with less growth. The last line is JSON.
"""

import argparse
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.soak import MODEL, console, serving, soak
from benchmarks.study import at_most, exit_on_sigterm, finish
from shipway.archive.inspect import inspect_mar
from shipway.engines.torchserve.temporary import ServedModel
from tests.hostile.kinds import TEXTS, kinds

SHARE = 0.1
GROWTH = 0.02
MOST_BYTES = 2_000_000
"""Of a hostile body, so that sending it is not what takes the time."""
ANSWERED_WITHIN_S = 140.0


class Hostile:
    """A client that sends what costs as much as it can."""

    def __init__(self, served: ServedModel, name: str) -> None:
        parts = urlsplit(served.url)
        assert parts.hostname and parts.port
        self._address = parts.hostname, parts.port
        self._path = parts.path
        self._headers = dict(served.headers)
        self._bodies = [
            (kind.headers, body)
            for kind in kinds(name, TEXTS)
            if kind.model == name and kind.over == "http" and kind.times == 1 and not kind.path
            if len(body := kind.body()) <= MOST_BYTES
        ]
        self._over = threading.Event()
        self.sent = self.unanswered = 0

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Sends for as long as the context lasts."""
        thread = threading.Thread(target=self._send)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _send(self) -> None:
        chance = random.Random(0)
        while not self._over.is_set():
            headers, body = chance.choice(self._bodies)
            began = time.monotonic()
            try:
                connection = HTTPConnection(*self._address, timeout=ANSWERED_WITHIN_S)
                connection.request("POST", self._path, body, headers | self._headers)
                status = connection.getresponse().status
                connection.close()
            except (OSError, HTTPException):
                status = 500
            self.sent += 1
            self.unanswered += status >= 500
            self._over.wait((1 / SHARE - 1) * (time.monotonic() - began))


def main() -> None:
    """Prints what happened; the last line is JSON."""
    exit_on_sigterm()
    parser = argparse.ArgumentParser()
    parser.add_argument("--mar", type=Path, default=MODEL)
    parser.add_argument("--minutes", type=float, default=60.0)
    given = parser.parse_args()
    info = inspect_mar(given.mar.absolute())
    with serving(info) as (state, served):
        hostile = Hostile(served, info.name)
        record, targets = soak(
            state, served, info, 60 * given.minutes, beside=hostile.sending, growth=GROWTH
        )
    console.print({name: figure for name, figure in record.items() if name != "memory"})
    console.print(f"{hostile.sent} hostile requests")
    finish(targets | {"hostile_requests_without_an_answer": at_most(hostile.unanswered, 0)})


if __name__ == "__main__":
    main()
