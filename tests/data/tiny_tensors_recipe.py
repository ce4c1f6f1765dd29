"""Two sequences of one length, the second an index: rows or inputs mixed up give other answers.

B = rows, C = channels, T = time.
"""

import io
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from shipway.files import atomic_write
from shipway.recipe import Axis, Inputs, Recipe, Rows, TensorPreprocessing, TensorSpec

WEIGHTS = Path(tempfile.gettempdir()) / f"shipway-tiny-tensors-{os.getuid()}.pth"
BATCH = Axis(name="batch", min=1, max=4)
TIME = Axis(name="time", min=2, max=16)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.names = nn.Embedding(10, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, values: Tensor, which: Tensor) -> Tensor:
        seen_BTC = torch.tanh(self.names(which[:, 0]) * values.mT)
        return self.head(seen_BTC + seen_BTC.mean(1, keepdim=True))


def save_weights() -> Path:
    torch.manual_seed(0)
    content = io.BytesIO()
    torch.save(Pair().state_dict(), content)
    # Another process may be reading the file.
    atomic_write(WEIGHTS, content.getvalue())
    return WEIGHTS


def noise(seed: int) -> Inputs:
    def load(recipe: Recipe) -> Rows:
        random = np.random.default_rng(seed)
        values = random.normal(size=(12, 6, 5)).astype(np.float32)
        return Rows((values, random.integers(0, 10, (12, 1, 5))))

    return Inputs(description=f"12 random pairs, seed {seed}", load=load)


recipe = Recipe(
    name="tiny-tensors",
    task="tensors",
    module=Pair,
    weights=save_weights,
    batch=BATCH,
    preprocessing=TensorPreprocessing(
        inputs=(
            TensorSpec(name="values", dtype="float32", shape=(BATCH, 6, TIME)),
            TensorSpec(name="which", dtype="int64", shape=(BATCH, 1, TIME)),
        ),
        source="made up for tests",
    ),
    calibration=noise(0),
    evaluation=noise(1),
)
