"""A table that runs on a backend that no file of the package knows: numpy_dense.py beside it."""

import numpy as np
from torch import nn

from shipway.recipe import Axis, Inputs, Recipe, Rows, TablePreprocessing


def noise(seed: int) -> Inputs:
    def load(recipe: Recipe) -> Rows:
        return Rows((np.random.default_rng(seed).normal(size=(24, 3)).astype(np.float32),))

    return Inputs(description=f"24 random rows, seed {seed}", load=load)


recipe = Recipe(
    name="dense",
    task="tabular_classification",
    plugins=["numpy_dense"],
    module=lambda: nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)),
    weights=lambda: None,
    batch=Axis(name="batch", min=1, max=4),
    preprocessing=TablePreprocessing(columns=("a", "b", "c"), source="made up for tests"),
    labels=lambda: ["no", "yes"],
    calibration=noise(0),
    evaluation=noise(1),
)
