"""Text embedding: a text, or a list of texts, in; a vector for each out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shipway.artifact.manifest import Manifest
from shipway.payloads.schemas import Schema, one_or_several
from shipway.tasks import TASKS
from shipway.tasks.texts import TextTask, noted, text_contents
from shipway.tasks.values import VECTOR, vectors


@TASKS.register("text_embedding")
class TextEmbedding(TextTask):
    """A text, or a list of texts, in; a vector for each out. Pooling and normalisation are part of
    the program."""

    output = "embedding"
    embeds = True

    def answers(
        self, outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
    ) -> list[Any]:
        """The vector of each text, from embeddings (B, K), with the notes on it."""
        return vectors(outputs, notes)

    @classmethod
    def native_schema(cls, manifest: Manifest) -> tuple[dict[str, Schema], Schema]:
        """A text or a list of texts; a vector for each."""
        return text_contents(), one_or_several(noted(VECTOR))
