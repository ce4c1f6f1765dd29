"""Logits to ranked classes.

B = rows, K = classes.
"""

from collections.abc import Sequence

import numpy as np

Prediction = dict[str, int | str | float]


def rank(logits_BK: np.ndarray, labels: Sequence[str], top_k: int) -> list[list[Prediction]]:
    """For each row the `top_k` classes with their softmax probabilities, largest first."""
    shifted_BK = logits_BK.astype(np.float64) - logits_BK.max(axis=1, keepdims=True)
    weights_BK = np.exp(shifted_BK)
    probabilities_BK = weights_BK / weights_BK.sum(axis=1, keepdims=True)
    # Stable, so that equal probabilities come in the order of their classes.
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
