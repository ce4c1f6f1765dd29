"""Photos a second without a server: a plain loop over all cores, with our decoding and program."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path

from shipway.artifact.bundle import open_artifact
from shipway.payloads.images import decode_image
from shipway.recipe import ImagePreprocessing
from shipway.runtime.host import available_cores
from shipway.runtime.model import Model

SLICE_S = 0.001


def ceiling(
    image_artifact: Path, bodies: list[bytes], seconds: float, beside: float = 0.0
) -> float:
    """The better rate of one and of eight photos at a time, while another process uses `beside`
    cores, as a load generator would."""
    with _busy(beside):
        return max(
            _loop_rate(image_artifact, bodies, seconds / 2, batch_size) for batch_size in (1, 8)
        )


@contextmanager
def _busy(cores: float) -> Iterator[None]:
    if not cores:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=_use, args=(cores,), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _use(cores: float) -> None:
    start = time.monotonic()
    while True:
        while time.process_time() < cores * (time.monotonic() - start):
            pass
        time.sleep(SLICE_S)


def _loop_rate(image_artifact: Path, bodies: list[bytes], seconds: float, batch_size: int) -> float:
    cores = available_cores()
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(cores)
    with context.Pool(cores, _take_barrier, (ready,)) as pool:
        given = (image_artifact, bodies, seconds, batch_size)
        counts = pool.starmap(_loop, [given] * cores, chunksize=1)
    return sum(counts) / seconds


_barrier: Barrier | None = None
"""Where the processes of the loop wait for each other."""


def _take_barrier(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _loop(image_artifact: Path, bodies: list[bytes], seconds: float, batch_size: int) -> int:
    model = Model(open_artifact(image_artifact), workers=available_cores())
    model.warm_up()
    spec = model.manifest.preprocessing
    assert isinstance(spec, ImagePreprocessing)
    assert _barrier
    _barrier.wait()
    end = time.monotonic() + seconds
    done = 0
    while time.monotonic() < end:
        for place in range(batch_size):
            model.staging[0][place] = decode_image(bodies[(done + place) % len(bodies)], spec)
        model.run(list(range(batch_size)))
        done += batch_size
    return done
