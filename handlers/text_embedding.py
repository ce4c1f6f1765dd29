"""Text embedding: a text, or a list of texts, in; a vector for each out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handlers.texts import TextTask


class TextEmbedding(TextTask):
    """Pooling and normalisation are part of the program."""

    def answers(
        self, outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
    ) -> list[Any]:
        embeddings_BK = np.ascontiguousarray(outputs[0])
        return [
            {"embedding": embedding_K, **(note or {})}
            for embedding_K, note in zip(embeddings_BK, notes, strict=True)
        ]
