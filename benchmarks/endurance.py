"""Many requests, a tenth of them broken: is every answer right, and does memory stay constant?

    python -m benchmarks.endurance [--requests 20000] [--clients 32]

EfficientNet-Lite0 on a real server. Each answer is compared with the answer to the same photo sent
alone; each broken request must get the right 4xx. The last line is JSON.
"""

import argparse
import http.client
import itertools
import json
import random
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from rich.console import Console
from rich.progress import Progress

from benchmarks.stock import IMAGES
from benchmarks.study import exit_on_sigterm
from shipway.archive.pack import pack
from shipway.artifact.bundle import open_artifact
from shipway.engines.torchserve.temporary import ServedModel, served_model
from shipway.releases.exporter_process import exporter_command
from shipway.tasks.demo_inputs import jpegs

BROKEN_SHARE = 0.1
WITHIN = 1e-5
"""How far a probability may differ between batches."""
SETTLED_AFTER = 2_000
"""Requests after which the workers' memory is measured for the first time."""

console = Console(highlight=False, soft_wrap=True)


@dataclass(slots=True)
class Tally:
    answered: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)


def broken_requests(photo: bytes) -> list[tuple[bytes, str, set[int]]]:
    """Bodies, content types and the statuses that are right for each."""
    binary, as_json = "application/octet-stream", "application/json"
    huge = {"name": "pixels", "shape": [10**12, 224, 224, 3], "datatype": "UINT8", "data": [1]}
    short = {"name": "pixels", "shape": [1, 224, 224, 3], "datatype": "UINT8", "data": [1, 2]}
    return [
        (b"no image at all", binary, {415}),
        (photo[: len(photo) // 3], binary, {400}),
        (b'{"image": ', as_json, {400}),
        (b'{"image": "not base64!"}', as_json, {400}),
        (b'{"a":' * 2000, as_json, {400}),
        (json.dumps({"inputs": [huge]}).encode(), as_json, {400, 413}),
        (json.dumps({"inputs": [short]}).encode(), as_json, {400}),
        (json.dumps({"inputs": [short | {"datatype": "FP32"}]}).encode(), as_json, {400}),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    exit_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="shipway-bench-") as temporary:
        mar = pack(open_artifact(IMAGES), Path(temporary) / "store")
        with served_model(
            Path(temporary),
            mar,
            workers=given.workers,
            batch_size=16,
            exporter_command=exporter_command,
        ) as served:
            outcome = drive(served, given.requests, given.clients)
    print(json.dumps(outcome))
    sys.exit(0 if outcome["passed"] else 1)


def drive(served: ServedModel, requests: int, clients: int) -> dict[str, object]:
    photos = jpegs()
    expected = [ask(served, photo, "image/jpeg")[1] for photo in photos]
    broken = broken_requests(photos[0])
    tally, lock, turn = Tally(), threading.Lock(), itertools.count()
    settled: dict[int, int] = {}

    def client(seed: int) -> None:
        chance = random.Random(seed)
        connection = connect(served)
        while (place := next(turn)) < requests:
            if place == SETTLED_AFTER:
                settled.update(memory(served))
            if chance.random() < BROKEN_SHARE:
                body, kind, statuses = chance.choice(broken)
                status, answer = ask(served, body, kind, connection)
                right = status in statuses and answer["code"] == status
            else:
                at = chance.randrange(len(photos))
                status, answer = ask(served, photos[at], "image/jpeg", connection)
                right = status == 200 and same(answer, expected[at])
                statuses = {200}
            with lock:
                tally.answered += status == 200
                tally.refused += 400 <= status < 500
                if not right:
                    tally.wrong.append(f"{status} where {statuses}: {str(answer)[:120]}")
                progress.advance(task)

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("asking", total=requests)
        threads = [threading.Thread(target=client, args=(seed,)) for seed in range(clients)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    ended = memory(served)
    growth = (
        max(ended[pid] / settled[pid] - 1 for pid in settled)
        if set(ended) == set(settled)
        else None
    )
    for line in tally.wrong[:5]:
        console.print(f"wrong: {line}")
    return {
        "requests": requests,
        "answered": tally.answered,
        "refused": tally.refused,
        "wrong": len(tally.wrong),
        "workers_restarted": growth is None,
        "memory_growth": None if growth is None else round(growth, 4),
        "worker_memory_mb": [round(each / 1e6) for each in ended.values()],
        "passed": tally.answered + tally.refused == requests
        and not tally.wrong
        and growth is not None
        and growth <= 0.05,
    }


def connect(served: ServedModel) -> http.client.HTTPConnection:
    parts = urlsplit(served.url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)


def ask(
    served: ServedModel,
    body: bytes,
    content_type: str,
    connection: http.client.HTTPConnection | None = None,
) -> tuple[int, Any]:
    connection = connection or connect(served)
    headers = {"content-type": content_type, **served.headers}
    connection.request("POST", urlsplit(served.url).path, body, headers)
    reply = connection.getresponse()
    return reply.status, json.loads(reply.read())


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    """Whether two answers agree: the same classes, and probabilities within WITHIN."""
    return len(found) == len(expected) and all(
        a["class_id"] == b["class_id"] and abs(a["probability"] - b["probability"]) < WITHIN
        for a, b in zip(found, expected, strict=True)
    )


def memory(served: ServedModel) -> dict[int, int]:
    """Resident bytes of each worker that is still the one that was started."""
    return {
        pid: psutil.Process(pid).memory_info().rss
        for pid in served.workers
        if psutil.pid_exists(pid)
    }


if __name__ == "__main__":
    main()
