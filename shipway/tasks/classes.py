"""Logits to ranked classes.

B = rows, K = classes.
"""

from collections.abc import Sequence

import numpy as np

from shipway.artifact.manifest import Manifest
from shipway.payloads.schemas import Schema, an_object

Prediction = dict[str, int | str | float]


def rank(logits_BK: np.ndarray, labels: Sequence[str], top_k: int) -> list[list[Prediction]]:
    """For each row the `top_k` most probable classes with their softmax probabilities, the most
    probable first. `labels` has a name for each of the K classes."""
    shifted_BK = logits_BK.astype(np.float64) - logits_BK.max(axis=1, keepdims=True)
    weights_BK = np.exp(shifted_BK)
    probabilities_BK = weights_BK / weights_BK.sum(axis=1, keepdims=True)
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
