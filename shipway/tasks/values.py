"""The half that tasks share which answer with numbers: predicted values, and vectors.

B = rows, K = values of a row.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shipway.artifact.manifest import Manifest
from shipway.payloads.schemas import Schema, an_object
from shipway.tasks.base import Task


def valued(outputs: tuple[np.ndarray, ...], labels: Sequence[str]) -> list[dict[str, Any]]:
    """What is answered for each row, from predictions (B,), (B, 1) or (B, K).

    One value without a label is `{"value": …}`; several are `{"values": […]}`, or by their labels
    `{"values": {label: …}}`.
    """
    values_BK = np.ascontiguousarray(outputs[0]).reshape(len(outputs[0]), -1)
    if labels:
        return [{"values": dict(zip(labels, row_K, strict=True))} for row_K in values_BK]
    if values_BK.shape[1] == 1:
        return [{"value": value} for (value,) in values_BK]
    return [{"values": row_K} for row_K in values_BK]


def valued_schema(manifest: Manifest) -> dict[str, Schema]:
    """The properties of what is answered for a row, for OpenAPI."""
    number: Schema = {"type": "number"}
    if manifest.labels:
        return {"values": an_object(dict.fromkeys(manifest.labels, number))}
    shape = manifest.outputs[0].shape[1:]
    if all(size == 1 for size in shape):
        return {"value": number}
    return {"values": {"type": "array", "items": number}}


class RegressionTask(Task):
    """Answers with the numbers that the model predicts. Labels, if there are any, name them.
    Another base class says what is read."""

    output = "prediction"
    regresses = True
    _manifest: Manifest

    def answers(
        self, outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
    ) -> list[Any]:
        """The values of each row, from predictions (B, …), with the notes on it."""
        values = valued(outputs, self._manifest.labels)
        return [{**each, **(note or {})} for each, note in zip(values, notes, strict=True)]


class EmbeddingTask(Task):
    """Answers with a vector. Pooling and normalisation are part of the program. Another base class
    says what is read."""

    output = "embedding"
    embeds = True

    def answers(
        self, outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
    ) -> list[Any]:
        """The vector of each row, from embeddings (B, K), with the notes on it."""
        embeddings_BK = np.ascontiguousarray(outputs[0])
        return [
            {"embedding": embedding_K, **(note or {})}
            for embedding_K, note in zip(embeddings_BK, notes, strict=True)
        ]


VECTOR: dict[str, Schema] = {"embedding": {"type": "array", "items": {"type": "number"}}}
"""The properties of what an `EmbeddingTask` answers for a row, for OpenAPI."""
