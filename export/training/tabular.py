"""Trains a small network to tell malignant from benign tumours by 30 measurements.

    python -m export.training.tabular

The table is scikit-learn's breast cancer (Wisconsin, diagnostic): of the labelled tables that come
with the package the one with the most rows to test on, and one on which errors do occur.
B = rows, F = 30 features, K = 2 classes.
"""

from pathlib import Path

import numpy as np
import torch
import typer
from rich.console import Console
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn

from export.training.loop import WEIGHTS, Schedule, Split, fit, save, split_rows
from shipway.recipe import Rows

CHECKPOINT = WEIGHTS / "tabular.safetensors"
SCHEDULE = Schedule(epochs=60, batch_size=32, learning_rate=3e-3, weight_decay=0.1, seed=0)
COLUMNS = tuple(str(name) for name in load_breast_cancer().feature_names)
CLASSES = tuple(str(name) for name in load_breast_cancer().target_names)


class Table(nn.Module):
    """Raw features (B, F) to logits (B, K), through two hidden layers.

    The features' scaling is part of the state_dict: no client can get it wrong.
    """

    mean_F: Tensor
    std_F: Tensor

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.register_buffer("mean_F", torch.zeros(len(COLUMNS)))
        self.register_buffer("std_F", torch.ones(len(COLUMNS)))
        self.layers = nn.Sequential(
            nn.Linear(len(COLUMNS), hidden),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(hidden, len(CLASSES)),
        )

    def scale_by(self, features_BF: Tensor) -> "Table":
        """Takes the scaling from these rows."""
        self.mean_F.copy_(features_BF.mean(0))
        self.std_F.copy_(features_BF.std(0))
        return self

    def forward(self, features_BF: Tensor) -> Tensor:
        logits_BK: Tensor = self.layers((features_BF - self.mean_F) / self.std_F)
        return logits_BK


def split() -> Split:
    """50% to train on, 10% to choose the epoch by, 40% to test on; the same ones each time."""
    table = load_breast_cancer()
    rows = Rows((table.data.astype(np.float32),), table.target.astype(np.int64))
    return split_rows(rows, validation=0.1, test=0.4, seed=0)


def train(schedule: Schedule = SCHEDULE, console: Console | None = None) -> dict[str, Tensor]:
    """The trained Table's state_dict."""
    parts = split()
    features_BF = torch.from_numpy(parts.train.arrays[0])
    return fit(lambda: Table().scale_by(features_BF), parts, schedule, console=console).state


def main(out: Path = typer.Option(CHECKPOINT, help="Where the state_dict goes.")) -> None:
    """Train the table's network and save its best epoch."""
    console = Console(highlight=False, soft_wrap=True)
    save(train(console=console), out, console)


if __name__ == "__main__":
    typer.run(main)
