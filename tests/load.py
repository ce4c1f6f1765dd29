"""Clients that ask a served model again and again, and note what became of each request."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from shipway.engines.errors import ServerError
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve.inference import Explained, HttpPredictor

PAUSE_S = 0.01
"""Between an answer and the next request of a client: the cores are not all theirs."""


@dataclass(slots=True)
class Load:
    """What clients asked and got so far. Times are time.monotonic()'s."""

    answers: list[tuple[float, Explained]] = field(default_factory=list)
    """With the time at which each was asked for."""
    errors: list[tuple[float, ServerError]] = field(default_factory=list)
    under_way: dict[int, float] = field(default_factory=dict)
    """When each client that waits for an answer asked."""
    over: threading.Event = field(default_factory=threading.Event)

    def ask(self, client: int, state: StateDirectory, model: str, body: bytes) -> None:
        with closing(HttpPredictor(state)) as predictor:
            while not self.over.is_set():
                self.under_way[client] = asked = time.monotonic()
                try:
                    found = predictor.explain(model, body, content_type="application/json")
                    self.answers.append((asked, found))
                except ServerError as error:
                    self.errors.append((asked, error))
                del self.under_way[client]
                time.sleep(PAUSE_S)


@contextmanager
def load_on(
    state: StateDirectory, model: str, row: Any, *, clients: int, patience_s: float | None = None
) -> Iterator[Load]:
    """`row` as JSON, from so many clients at once, until the block ends.

    Clients that wait for longer than `patience_s` after that are left in `under_way`.
    """
    load = Load()
    body = json.dumps(row).encode()
    threads = [
        threading.Thread(target=load.ask, args=(client, state, model, body), daemon=True)
        for client in range(clients)
    ]
    for each in threads:
        each.start()
    try:
        yield load
    finally:
        load.over.set()
        deadline = None if patience_s is None else time.monotonic() + patience_s
        for each in threads:
            each.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
