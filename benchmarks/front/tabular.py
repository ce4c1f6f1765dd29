"""A small table's program behind the front, TorchServe, FastAPI and mosec, with one worker each.

All are there and are measured in turns, A B C D A B C D; those that are not measured are idle.
"""

import json
import os
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks.front.servers import (
    KILL_CLIENTS,
    announced,
    kill,
    memory_of,
    ours,
    processor_us,
    wait_for_front,
)
from benchmarks.front.turns import Part, in_turns, median_ratio, warm
from benchmarks.front.wrk import Wrk, authorization
from benchmarks.peers import environments, process
from benchmarks.peers.systems import JSON, ROOT, first_of_list
from benchmarks.peers.table import MANY, ONE
from benchmarks.stock_torchserve import without_python
from benchmarks.study import at_least, at_most
from shipway.artifact.bundle import Artifact, open_artifact
from shipway.engines.ports import free_ports
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve.temporary import ServedModel

TABULAR = Path("artifacts/tabular-1.0")
COST_REQUESTS = 500


def measure(folder: Path, part: Part) -> dict[str, float]:
    """Rates and latencies beside the others', what the front costs and takes, and a kill."""
    artifact = open_artifact(TABULAR)
    row = np.load(artifact.path / "samples/features.npy")[0]
    body = json.dumps([round(float(each), 4) for each in row]).encode()
    expected = int(np.load(artifact.path / "samples/logits.npy")[0].argmax())
    wrk = Wrk(folder / "wrk", [body], JSON, part.seconds)
    with ExitStack() as stack:
        before, _ = stack.enter_context(ours(folder / "off", artifact, front="off", workers=1))
        after, state = stack.enter_context(ours(folder / "on", artifact, front="on", workers=1))
        wait_for_front(after, body, JSON)
        servers = {"TorchServe": before, "front": after}
        for name in ("fastapi", "mosec"):
            servers[name] = stack.enter_context(other(folder / name, artifact, name))
            process.check_answers(servers[name], [body], JSON, first_of_list, [expected])
        for served in servers.values():
            warm(wrk, served)
        loads = {name: (wrk, served) for name, served in servers.items()}
        samples = in_turns(part, loads, (ONE, MANY))
        cost_ms = cost_of_front(state, after, body)
        own = memory_of(state) | processor_us(wrk, state, after, MANY)
        killed = kill(wrk, state, after)
    ours_many = samples["front", MANY]
    return {
        "rate_16": statistics.median(each.rate for each in ours_many),
        "rate_16_vs_torchserve": median_ratio(ours_many, samples["TorchServe", MANY], "rate"),
        "rate_16_vs_fastapi": median_ratio(ours_many, samples["fastapi", MANY], "rate"),
        "rate_16_vs_mosec": median_ratio(ours_many, samples["mosec", MANY], "rate"),
        "p50_1_vs_torchserve": median_ratio(
            samples["front", ONE], samples["TorchServe", ONE], "p50_ms"
        ),
        "front_cost_ms": cost_ms,
        **own,
        "killed_back_s": killed["back_s"],
        "killed_lost": killed["lost"],
        "errors": sum(each.errors for found in samples.values() for each in found),
    }


TARGETS = {
    "rate_16_vs_torchserve": (at_least, 3.5),
    "rate_16_vs_fastapi": (at_least, 1.5),
    "rate_16_vs_mosec": (at_least, 0.75),
    "p50_1_vs_torchserve": (at_most, 1 / 6),
    "front_cost_ms": (at_most, 0.2),
    "front_mb": (at_most, 90),
    "killed_back_s": (at_most, 1.0),
    "killed_lost": (at_most, KILL_CLIENTS),
    "errors": (at_most, 0),
}


@contextmanager
def other(folder: Path, artifact: Artifact, name: str) -> Iterator[ServedModel]:
    """FastAPI or mosec with the same program, one process."""
    folder.mkdir()
    programs = environments.made(name)
    (port,) = free_ports(1)
    command, path = {
        "fastapi": (
            [f"{programs}/uvicorn", "benchmarks.peers.tabular.fastapi_app:app"]
            + ["--port", str(port), "--log-level", "warning"],
            "/predict",
        ),
        "mosec": (
            [f"{programs}/python", "-m", "benchmarks.peers.tabular.mosec_app"]
            + ["--address", "127.0.0.1", "--port", str(port), "--log-level", "warning"],
            "/inference",
        ),
    }[name]
    environment = without_python(os.environ) | {
        "PYTHONPATH": str(ROOT),
        "PEERS_ARTIFACT": str(artifact.path.absolute()),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
    }
    with process.running(command, f"http://127.0.0.1:{port}{path}", folder, environment) as served:
        yield served


def cost_of_front(state: StateDirectory, served: ServedModel, body: bytes) -> float:
    """How much longer one client waits for an answer through the front than for one from the
    worker's own socket, in ms: the difference of the medians, in turns."""
    url = urlsplit(served.url)
    request = (
        f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\n"
        f"Authorization: {authorization(served)}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body

    def median_ms(opened: socket.socket) -> float:
        times = []
        for _ in range(COST_REQUESTS):
            start = time.perf_counter()
            opened.sendall(request)
            opened.recv(2**16)
            times.append(1000 * (time.perf_counter() - start))
        return statistics.median(times)

    with (
        socket.create_connection((url.hostname, url.port)) as through,
        socket.socket(socket.AF_UNIX) as direct,
    ):
        through.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        direct.connect(announced(state)[0]["socket"])
        return statistics.median(median_ms(through) - median_ms(direct) for _ in range(5))
