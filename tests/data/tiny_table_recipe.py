"""Five columns to one of three classes: a table that exports in seconds."""

import io
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from shipway.files import atomic_write
from shipway.recipe import Axis, Inputs, Recipe, Rows, TablePreprocessing

WEIGHTS = Path(tempfile.gettempdir()) / f"shipway-tiny-table-{os.getuid()}.pth"
COLUMNS = ("height", "width", "depth", "weight", "price")


class Table(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 3))


def save_weights() -> Path:
    torch.manual_seed(0)
    content = io.BytesIO()
    torch.save(Table().state_dict(), content)
    # Another process may be reading the file.
    atomic_write(WEIGHTS, content.getvalue())
    return WEIGHTS


def noise(seed: int) -> Inputs:
    def load(recipe: Recipe) -> Rows:
        return Rows((np.random.default_rng(seed).normal(size=(24, 5)).astype(np.float32),))

    return Inputs(description=f"24 random rows, seed {seed}", load=load)


recipe = Recipe(
    name="tiny-table",
    task="tabular_classification",
    module=Table,
    weights=save_weights,
    batch=Axis(name="batch", min=1, max=4),
    preprocessing=TablePreprocessing(columns=COLUMNS, source="made up for tests"),
    labels=lambda: ["red", "green", "blue"],
    top_k=3,
    calibration=noise(0),
    evaluation=noise(1),
)
