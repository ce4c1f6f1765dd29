"""One real server for all tests that only talk to it, and handlers that need no model."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipway.archive.inspect import MarInfo
from tests.servers import RunningServer, build_mar, running_server

# "broken" is refused as the project's handlers refuse a row; anything else comes back.
ECHO = """
import os

class Echo:
    def initialize(self, context):
        self.version = context.manifest["model"]["modelVersion"]

    def handle(self, rows, context):
        return [self.answer(i, row.get("body"), len(rows), context) for i, row in enumerate(rows)]

    def answer(self, i, body, batch, context):
        body = bytes(body or b"")
        if body == b"broken":
            context.set_response_status(415, "Unsupported Media Type", i)
            return {"code": 415, "type": "NotAnImage", "message": "It says 'broken'."}
        return [{
            "class_id": len(body), "label": body[:40].decode("latin-1"), "probability": 0.5,
            "version": self.version, "batch": batch, "pid": os.getpid(),
        }]
"""

FAILING = """
class Failing:
    def initialize(self, context):
        raise ValueError("artifact/programs/int8.onnx is not the file that was packaged")

    def handle(self, rows, context):
        return rows
"""


def mar_info(path: Path, name: str, version: str) -> MarInfo:
    return MarInfo(
        path=path,
        name=name,
        version=version,
        batch_size=4,
        max_batch_delay_ms=0,
        workers=1,
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


@pytest.fixture(scope="session")
def echo_mars(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Versions of a model that answers with what it was asked; 3.0 does not start."""
    folder = tmp_path_factory.mktemp("mars")
    handlers = {"1.0": ECHO, "2.0": ECHO, "3.0": FAILING}
    return {version: build_mar(folder, "echo", version, of) for version, of in handlers.items()}


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, echo_mars: dict[str, Path]
) -> Iterator[RunningServer]:
    """A server with `echo` 1.0 registered. Leave it as you found it."""
    folder = tmp_path_factory.mktemp("server")
    with running_server(folder, metric_time_interval=3) as running:
        register_echo(running, echo_mars["1.0"], "1.0")
        yield running


def register_echo(running: RunningServer, mar: Path, version: str, batch_size: int = 4) -> None:
    stored = running.model_store / mar.name
    stored.write_bytes(mar.read_bytes())
    running.management.register(
        mar.name,
        name="echo",
        version=version,
        batch_size=batch_size,
        max_batch_delay_ms=50,
        workers=1,
    )
