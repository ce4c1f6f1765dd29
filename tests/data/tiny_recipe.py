"""A network that exports in seconds, on random pixels: for tests of the export itself."""

import io
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from shipway.files import atomic_write
from shipway.recipe import Axis, ImagePreprocessing, Inputs, Recipe, Rows

WEIGHTS = Path(tempfile.gettempdir()) / f"shipway-tiny-{os.getuid()}.pth"


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU6(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU6(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU6(),
        )
        self.dropout = nn.Dropout(0.5)  # shows at once if a program was not made in eval mode
        self.classifier = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.dropout(self.features(x).mean((2, 3))))


def save_weights() -> Path:
    torch.manual_seed(0)
    content = io.BytesIO()
    torch.save(Tiny().state_dict(), content)
    # Another process may be reading the file.
    atomic_write(WEIGHTS, content.getvalue())
    return WEIGHTS


def noise(seed: int) -> Inputs:
    def load(recipe: Recipe) -> Rows:
        random = np.random.default_rng(seed)
        coarse = random.integers(0, 256, (24, 4, 4, 3), np.uint8)
        return Rows((coarse.repeat(16, axis=1).repeat(16, axis=2),))

    return Inputs(description=f"24 random mosaics, seed {seed}", load=load)


recipe = Recipe(
    name="tiny",
    module=Tiny,
    weights=save_weights,
    batch=Axis(name="batch", min=1, max=4),
    preprocessing=ImagePreprocessing(
        height=64,
        width=64,
        crop_fraction=1.0,
        resample="bilinear",
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        source="made up for tests",
    ),
    labels=lambda: [f"class {index}" for index in range(10)],
    calibration=noise(0),
    evaluation=noise(1),
)
