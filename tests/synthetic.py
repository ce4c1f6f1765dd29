"""A real server for load tests, with a handler that takes as long as a request says."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import RunningServer, build_mar, running_server

# "sleep 20" takes 20 ms; "broken" is refused as the project's handlers refuse a row. A file named
# stall makes the next request wait for as many seconds as stand in it.
SYNTHETIC = """
import time
from pathlib import Path

STALL = Path({stall!r})

class Synthetic:
    def initialize(self, context):
        pass

    def handle(self, rows, context):
        if STALL.exists():
            seconds = float(STALL.read_text())
            STALL.unlink()
            time.sleep(seconds)
        return [self.answer(i, bytes(row.get("body") or b""), context)
                for i, row in enumerate(rows)]

    def answer(self, i, body, context):
        if body == b"broken":
            context.set_response_status(415, "Unsupported Media Type", i)
            return {{"code": 415, "type": "NotAnImage", "message": "It says 'broken'."}}
        if body.startswith(b"sleep "):
            time.sleep(float(body[6:]) / 1000)
        context.set_response_header(i, "Server-Timing", "decode;dur=1.0, total;dur=2.5")
        return {{"said": body.decode()}}
"""


@pytest.fixture(scope="session")
def stall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stall") / "stall"


@pytest.fixture(scope="session")
def synthetic_server(
    tmp_path_factory: pytest.TempPathFactory, stall: Path
) -> Iterator[RunningServer]:
    """A server with the model `synthetic`, one row at a time."""
    folder = tmp_path_factory.mktemp("server")
    mar = build_mar(folder / "mars", "synthetic", "1.0", SYNTHETIC.format(stall=str(stall)))
    with running_server(folder) as running:
        (running.model_store / mar.name).write_bytes(mar.read_bytes())
        running.management.register(
            mar.name,
            name="synthetic",
            version="1.0",
            batch_size=1,
            max_batch_delay_ms=0,
            workers=1,
        )
        yield running
