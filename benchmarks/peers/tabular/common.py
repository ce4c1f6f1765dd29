"""What the other servers do with rows of numbers: this project's own code, on its program.

`benchmarks.front` sets the variable.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shipway.artifact.bundle import open_artifact
from shipway.runtime.backends.onnxruntime import OnnxRuntimeProgram
from shipway.tasks.classes import Prediction, rank

ARTIFACT = Path(os.environ["PEERS_ARTIFACT"])
MAX_BATCH = 16


class Classifier:
    """Safe to call from several threads at once."""

    def __init__(self) -> None:
        artifact = open_artifact(ARTIFACT)
        self._manifest = artifact.manifest
        self._program = OnnxRuntimeProgram(
            artifact.program_path(artifact.manifest.chosen), threads=1
        )
        self([[0.0] * len(self._manifest.preprocessing.columns)])

    def __call__(self, rows: Sequence[Sequence[float]]) -> list[list[Prediction]]:
        """The ranked classes of each row."""
        (logits_BK,) = self._program.run([np.array(rows, np.float32)])
        return rank(logits_BK, self._manifest.labels, self._manifest.top_k)
