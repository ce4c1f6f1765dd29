"""What every server of this comparison does with a batch: this project's own code, on its program.

Decoding, resizing, the program's session and the ranking are those that our handler uses, so that
rows differ by their servers alone. `benchmarks.peers.systems` sets the three variables.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from shipway.artifact.bundle import open_artifact
from shipway.payloads.images import decode_image
from shipway.runtime.backends.onnxruntime import OnnxRuntimeProgram
from shipway.runtime.host import available_cores
from shipway.tasks.classes import Prediction, rank

ARTIFACT = Path(os.environ["PEERS_ARTIFACT"])
WORKERS = int(os.environ["PEERS_WORKERS"])
THREADS = int(os.environ["PEERS_THREADS"])
"""Of each worker."""

MAX_BATCH = 8


class Classifier:
    """Safe to call from several threads at once."""

    def __init__(self) -> None:
        torch.set_num_threads(THREADS)
        artifact = open_artifact(ARTIFACT)
        self._manifest = artifact.manifest
        program = artifact.program_path(artifact.manifest.chosen)
        self._program = OnnxRuntimeProgram(program, threads=THREADS)
        self._decoders = ThreadPoolExecutor(available_cores())
        height, width = self._manifest.preprocessing.height, self._manifest.preprocessing.width
        for size in range(1, MAX_BATCH + 1):  # as our worker does before it is ready
            self._program.run([np.zeros((size, height, width, 3), np.uint8)])

    def __call__(self, photos: Sequence[bytes]) -> list[list[Prediction]]:
        """The five most probable classes of each photo, given as the bytes of a file."""
        pixels_BHWC = np.stack(self._decoded(photos))
        (logits_BK,) = self._program.run([pixels_BHWC])
        return rank(logits_BK, self._manifest.labels, self._manifest.top_k)

    def _decoded(self, photos: Sequence[bytes]) -> list[np.ndarray]:
        run = self._decoders.map if len(photos) > 1 else map
        return list(run(lambda photo: decode_image(photo, self._manifest.preprocessing), photos))
