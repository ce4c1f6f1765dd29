"""Text classification: a text, or a list of texts, in; the most probable classes of each out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shipway.artifact.manifest import Manifest
from shipway.payloads.schemas import Schema, one_or_several
from shipway.tasks import TASKS
from shipway.tasks.classes import ranked, ranked_schema
from shipway.tasks.texts import TextTask, noted, text_contents


@TASKS.register("text_classification")
class TextClassification(TextTask):
    """A text, or a list of texts, in; the most probable classes of each out."""

    output = "logits"
    classifies = True

    def answers(
        self, outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
    ) -> list[Any]:
        """The `top_k` classes of each text, from its scores, with the notes on it."""
        return [
            {"predictions": predictions, **(note or {})}
            for predictions, note in zip(ranked(outputs, self._manifest), notes, strict=True)
        ]

    @classmethod
    def native_schema(cls, manifest: Manifest) -> tuple[dict[str, Schema], Schema]:
        """A text or a list of texts; ranked classes of each."""
        answer = noted({"predictions": ranked_schema(manifest)})
        return text_contents(), one_or_several(answer)
