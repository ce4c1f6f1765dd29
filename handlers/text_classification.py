"""Text classification: a text, or a list of texts, in; the most probable classes of each out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handlers.classes import rank
from handlers.texts import TextTask


class TextClassification(TextTask):
    def answers(
        self, outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
    ) -> list[Any]:
        ranked = rank(outputs[0], self._manifest.labels, self._manifest.top_k)
        return [
            {"predictions": predictions, **(note or {})}
            for predictions, note in zip(ranked, notes, strict=True)
        ]
