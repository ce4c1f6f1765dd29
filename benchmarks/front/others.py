"""Digits and short texts behind the front and FastAPI, with the same program, 16 clients.

The program of the digits takes a fraction of a millisecond, that of MiniLM some. Both servers may
choose, round by round, the better of one worker with all cores and a worker a core.
"""

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.front.servers import ours, wait_for_front
from benchmarks.front.turns import Part, in_turns, median_ratio, warm
from benchmarks.front.wrk import Wrk
from benchmarks.peers import environments, process
from benchmarks.peers.errors import PeerFailed
from benchmarks.peers.systems import BYTES, ROOT
from benchmarks.peers.table import MANY, Sample
from benchmarks.stock import TEXTS
from benchmarks.stock_torchserve import without_python
from benchmarks.study import at_least
from shipway.artifact.bundle import Artifact, open_artifact
from shipway.engines.ports import free_ports
from shipway.engines.torchserve.temporary import ServedModel
from shipway.runtime.host import available_cores
from shipway.tasks.demo_inputs import sentences

DIGITS = Path("artifacts/digits-1.0")
DIGITS_TARGETS = dict.fromkeys(("image_16_vs_fastapi", "tensor_16_vs_fastapi"), (at_least, 1.5))
TEXTS_TARGETS = {"text_16_vs_fastapi": (at_least, 1.5)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """The same input as both servers take it, and what their answers mean."""

    ours: bytes
    our_headers: Mapping[str, str]
    theirs: bytes
    their_headers: Mapping[str, str]
    path: str
    """Of the other server."""
    read: Callable[[bytes], object]
    """What an answer of ours says, to be compared with what theirs says."""
    read_theirs: Callable[[bytes], object]


def measure_digits(folder: Path, part: Part) -> dict[str, float]:
    """The ratio of the rates, for a PNG and for a raw tensor."""
    artifact = open_artifact(DIGITS)
    pixels_HWC = np.load(artifact.path / "samples/pixels.npy")[0]
    png = io.BytesIO()
    Image.fromarray(pixels_HWC).save(png, "PNG")
    image = Wire(
        ours=png.getvalue(),
        our_headers=BYTES,
        theirs=png.getvalue(),
        their_headers=BYTES,
        path="/image",
        read=lambda answer: json.loads(answer)[0]["class_id"],
        read_theirs=lambda answer: json.loads(answer)[0]["class_id"],
    )
    raw = pixels_HWC.tobytes()
    tensor = {
        "name": "pixels",
        "shape": [1, *pixels_HWC.shape],
        "datatype": "UINT8",
        "parameters": {"binary_data_size": len(raw)},
    }
    header = json.dumps({"inputs": [tensor]}).encode()
    binary = Wire(
        ours=header + raw,
        our_headers={**BYTES, "inference-header-content-length": str(len(header))},
        theirs=raw,
        their_headers=BYTES,
        path="/tensor",
        read=lambda answer: int(np.argmax(json.loads(answer)["outputs"][0]["data"])),
        read_theirs=lambda answer: int(np.argmax(json.loads(answer)["logits"])),
    )
    app = "benchmarks.peers.digits.fastapi_app:app"
    return _compared(folder, part, artifact, ("fastapi", app), {"image": image, "tensor": binary})


def measure_texts(folder: Path, part: Part) -> dict[str, float]:
    """The ratio of the rates for a short text."""
    [*_, shortest] = sorted(sentences(), key=len, reverse=True)

    def vector(answer: bytes) -> object:
        return [round(each, 2) for each in json.loads(answer)["embedding"]]

    text = Wire(
        ours=shortest,
        our_headers={"content-type": "text/plain"},
        theirs=json.dumps(shortest.decode()).encode(),
        their_headers={"content-type": "application/json"},
        path="/predict",
        read=vector,
        read_theirs=vector,
    )
    app = "benchmarks.peers.texts.fastapi_app:app"
    return _compared(folder, part, open_artifact(TEXTS), ("fastapi-texts", app), {"text": text})


def _compared(
    folder: Path,
    part: Part,
    artifact: Artifact,
    peer: tuple[str, str],
    wires: Mapping[str, Wire],
) -> dict[str, float]:
    found: dict[str, float] = {}
    with ExitStack() as stack:
        fronts, theirs = {}, {}
        for workers in sorted({1, available_cores()}):
            each = folder / f"ours-{workers}"
            fronts[f"front, {workers} worker(s)"], _ = stack.enter_context(
                ours(each, artifact, front="on", workers=workers)
            )
            theirs[f"FastAPI, {workers} worker(s)"] = stack.enter_context(
                fastapi(folder / f"fastapi-{workers}", artifact, *peer, workers)
            )
        for name, wire in wires.items():
            our_wrk = Wrk(folder / f"{name}-ours", [wire.ours], wire.our_headers, part.seconds)
            their_wrk = Wrk(
                folder / f"{name}-theirs", [wire.theirs], wire.their_headers, part.seconds
            )
            loads = {what: (our_wrk, served) for what, served in fronts.items()}
            loads |= {what: (their_wrk, at(base, wire.path)) for what, base in theirs.items()}
            _check_answers(wire, fronts, {what: loads[what][1] for what in theirs})
            for wrk, served in loads.values():
                warm(wrk, served)
            samples = in_turns(part, loads, (MANY,))
            found[f"{name}_16_vs_fastapi"] = median_ratio(
                _best(samples, fronts, part.rounds), _best(samples, theirs, part.rounds), "rate"
            )
    return found


def _check_answers(
    wire: Wire, fronts: Mapping[str, ServedModel], theirs: Mapping[str, ServedModel]
) -> None:
    """Raises PeerFailed unless all servers answer the same."""
    said = {}
    for what, served in fronts.items():
        wait_for_front(served, wire.ours, wire.our_headers)
        headers = {**wire.our_headers, **served.headers}
        said[what] = wire.read(process.answer_of(served, wire.ours, headers))
    for what, served in theirs.items():
        answer = process.answer_of(served, wire.theirs, wire.their_headers)
        said[what] = wire.read_theirs(answer)
    first = next(iter(said.values()))
    if any(each != first for each in said.values()):
        raise PeerFailed(f"the answers differ: {said}")


def _best(
    samples: Mapping[tuple[str, int], Sequence[Sample]], servers: Iterable[str], rounds: int
) -> list[Sample]:
    """Of each round, the sample with the highest rate."""
    return [
        max((samples[what, MANY][turn] for what in servers), key=lambda each: each.rate)
        for turn in range(rounds)
    ]


@contextmanager
def fastapi(
    folder: Path, artifact: Artifact, environment: str, app: str, workers: int
) -> Iterator[ServedModel]:
    """FastAPI with that many processes, which share the cores."""
    folder.mkdir()
    programs = environments.made(environment)
    (port,) = free_ports(1)
    command = [f"{programs}/uvicorn", app, "--port", str(port), "--workers", str(workers)]
    variables = without_python(os.environ) | {
        "PYTHONPATH": str(ROOT),
        "PEERS_ARTIFACT": str(artifact.path.absolute()),
        "PEERS_THREADS": str(available_cores() // workers),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
    }
    url = f"http://127.0.0.1:{port}"
    with process.running([*command, "--log-level", "warning"], url, folder, variables) as served:
        yield served


def at(served: ServedModel, path: str) -> ServedModel:
    """The same server at another path."""
    return replace(served, url=f"{served.url}{path}")
