"""Numbers that a model predicts, as answers.

B = rows, K = values of a row.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shipway.artifact.manifest import Manifest
from shipway.payloads.schemas import Schema, an_object


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


def vectors(
    outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
) -> list[dict[str, Any]]:
    """The vector of each row, from embeddings (B, K), with the notes on it."""
    embeddings_BK = np.ascontiguousarray(outputs[0])
    return [
        {"embedding": embedding_K, **(note or {})}
        for embedding_K, note in zip(embeddings_BK, notes, strict=True)
    ]


VECTOR: dict[str, Schema] = {"embedding": {"type": "array", "items": {"type": "number"}}}
"""The properties of what `vectors` gives for a row, for OpenAPI."""
