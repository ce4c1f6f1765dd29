"""One layer of BERT, random weights and tokens: a transformer that exports in seconds."""

import io
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from shipway.files import atomic_write
from shipway.recipe import Axis, Inputs, Recipe, Rows, TextPreprocessing

WEIGHTS = Path(tempfile.gettempdir()) / f"shipway-tiny-text-{os.getuid()}.pth"
TOKENS = 100


class TinyText(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        sizes = BertConfig(
            vocab_size=TOKENS,
            hidden_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=256,
            max_position_embeddings=32,
        )
        self.bert = BertModel(sizes, add_pooling_layer=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        tokens_BTD = self.bert(input_ids, attention_mask).last_hidden_state
        seen_BT1 = attention_mask[:, :, None].to(tokens_BTD.dtype)
        return nn.functional.normalize((tokens_BTD * seen_BT1).sum(1) / seen_BT1.sum(1), dim=1)


def save_weights() -> Path:
    torch.manual_seed(0)
    content = io.BytesIO()
    torch.save(TinyText().state_dict(), content)
    # Another process may be reading the file.
    atomic_write(WEIGHTS, content.getvalue())
    return WEIGHTS


def gibberish(seed: int) -> Inputs:
    def load(recipe: Recipe) -> Rows:
        random = np.random.default_rng(seed)
        lengths = random.integers(4, 25, (24, 1))
        mask = (np.arange(24) < lengths).astype(np.int64)
        return Rows((random.integers(1, TOKENS, (24, 24)) * mask, mask))

    return Inputs(description=f"24 texts of random tokens, seed {seed}", load=load)


recipe = Recipe(
    name="tiny-text",
    task="text_embedding",
    module=TinyText,
    weights=save_weights,
    batch=Axis(name="batch", min=1, max=4),
    preprocessing=TextPreprocessing(
        tokenizer="files/tokenizer.json",
        max_length=32,
        too_long="truncate",
        source="made up for tests",
    ),
    calibration=gibberish(0),
    evaluation=gibberish(1),
)
