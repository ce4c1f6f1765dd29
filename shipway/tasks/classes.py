"""Scores of classes to ranked classes.

B = rows, K = classes.
"""

from collections.abc import Sequence

import numpy as np

from shipway.artifact.manifest import Manifest
from shipway.payloads.schemas import Schema, an_object
from shipway.recipe import Scores

Prediction = dict[str, int | str | float]


def probabilities_of(outputs: np.ndarray, scores: Scores) -> np.ndarray:
    """The probability of each class, float64 (B, K).

    `outputs` are what `scores` says: logits or probabilities (B, K), logits of independent labels
    (B, K), or for two classes the logit of the second, (B,) or (B, 1).
    """
    outputs_BK = outputs.astype(np.float64).reshape(len(outputs), -1)
    if scores == "probabilities":
        return outputs_BK
    if scores == "logits":
        weights_BK = np.exp(outputs_BK - outputs_BK.max(axis=1, keepdims=True))
        probabilities_BK: np.ndarray = weights_BK / weights_BK.sum(axis=1, keepdims=True)
        return probabilities_BK
    # The logistic function by tanh, which overflows nowhere.
    second_BK = (1 + np.tanh(outputs_BK / 2)) / 2
    if scores == "multi_label":
        return second_BK
    return np.concatenate([1 - second_BK, second_BK], axis=1)


def rank(
    outputs: np.ndarray, labels: Sequence[str], top_k: int, scores: Scores = "logits"
) -> list[list[Prediction]]:
    """For each row the `top_k` most probable classes with their probabilities, the most probable
    first. `labels` has a name for each of the K classes; `outputs` are what `scores` says."""
    probabilities_BK = probabilities_of(outputs, scores)
    # Stable, so that classes of equal probability keep their order.
    order_BK = np.argsort(-probabilities_BK, axis=1, kind="stable")[:, :top_k]
    return [
        [
            {
                "class_id": int(each),
                "label": labels[each],
                "probability": float(probabilities_K[each]),
            }
            for each in order_K
        ]
        for probabilities_K, order_K in zip(probabilities_BK, order_BK, strict=True)
    ]


def ranked(outputs: tuple[np.ndarray, ...], manifest: Manifest) -> list[list[Prediction]]:
    """The ranked classes of each row, from the outputs of a classifier."""
    return rank(outputs[0], manifest.labels, manifest.top_k, manifest.scores)


def ranked_schema(manifest: Manifest) -> Schema:
    """The schema of what `rank` gives for a row, for OpenAPI."""
    ranked = an_object(
        {
            "class_id": {"type": "integer", "minimum": 0, "maximum": len(manifest.labels) - 1},
            "label": {"type": "string"},
            "probability": {"type": "number", "minimum": 0, "maximum": 1},
        }
    )
    count = min(manifest.top_k, len(manifest.labels))
    return {"type": "array", "items": ranked, "minItems": count, "maxItems": count}
