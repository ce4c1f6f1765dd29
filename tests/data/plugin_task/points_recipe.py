"""A model of a task that no file of the package knows: points.py beside this file."""

import numpy as np
import torch
from torch import nn

from shipway.recipe import Axis, Inputs, Recipe, Rows, TensorPreprocessing, TensorSpec

BATCH = Axis(name="batch", min=1, max=4)


class Distance(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, points_B2: torch.Tensor) -> torch.Tensor:
        return (self.scale * points_B2).square().sum(1, keepdim=True).sqrt()


def noise(seed: int) -> Inputs:
    def load(recipe: Recipe) -> Rows:
        return Rows((np.random.default_rng(seed).normal(size=(24, 2)).astype(np.float32),))

    return Inputs(description=f"24 random points, seed {seed}", load=load)


recipe = Recipe(
    name="points",
    task="points",
    plugins=["points"],
    module=Distance,
    weights=lambda: None,
    batch=BATCH,
    preprocessing=TensorPreprocessing(
        inputs=(TensorSpec(name="points", dtype="float32", shape=(BATCH, 2)),),
        source="made up for tests",
    ),
    calibration=noise(0),
    evaluation=noise(1),
)
