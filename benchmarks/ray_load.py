"""Clients that send requests to models behind one address while something happens to it."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import httpx

from shipway.artifact.bundle import Artifact
from shipway.loadtest.inputs import for_task
from shipway.loadtest.load_test import Input

CLIENTS = 8
BEFORE_S, AFTER_S = 3.0, 8.0
"""Of load, around what happens under it."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request under load and its answer."""

    model: str
    start: float
    end: float
    status: int
    """0 if the connection broke."""
    version: str
    said: str


@dataclass(slots=True)
class Load:
    """All requests of a load."""

    sent: list[Exchange] = field(default_factory=list)

    @property
    def lost(self) -> list[Exchange]:
        """Requests without an answer of 200."""
        return [each for each in self.sent if each.status != 200]

    @property
    def slowest_s(self) -> float:
        """Seconds of the slowest request."""
        return round(max(each.end - each.start for each in self.sent), 2)


@contextmanager
def load_on(url: str, artifacts: Sequence[Artifact]) -> Iterator[Load]:
    """Clients that each send their next request when the last is answered, until the block ends."""
    load, over = Load(), threading.Event()

    def send(artifact: Artifact, inputs: Sequence[Input]) -> None:
        path = f"{url}/predictions/{artifact.manifest.name}"
        with httpx.Client(timeout=60, trust_env=False) as client:
            for turn in count():
                if over.is_set():
                    return
                load.sent.append(_sent(client, path, inputs[turn % len(inputs)]))

    threads = []
    for place in range(CLIENTS):
        artifact = artifacts[place % len(artifacts)]
        inputs = for_task(artifact.manifest.task, ())
        threads.append(threading.Thread(target=send, args=(artifact, inputs)))
    for each in threads:
        each.start()
    try:
        time.sleep(BEFORE_S)
        yield load
        time.sleep(AFTER_S)
    finally:
        over.set()
        for each in threads:
            each.join()


def _sent(client: httpx.Client, path: str, one: Input) -> Exchange:
    start = time.monotonic()
    status, version, said = 0, "", ""
    try:
        answer = client.post(path, content=one.body, headers={"content-type": one.content_type})
        status, version = answer.status_code, answer.headers.get("shipway-version", "")
        said = "" if answer.is_success else answer.text
    except httpx.TransportError as error:
        said = repr(error)
    return Exchange(path.rpartition("/")[2], start, time.monotonic(), status, version, said)
