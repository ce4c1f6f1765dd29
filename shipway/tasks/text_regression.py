"""Text regression: a text, or a list of texts, in; the predicted numbers out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shipway.artifact.manifest import Manifest
from shipway.payloads.schemas import Schema, one_or_several
from shipway.tasks import TASKS
from shipway.tasks.texts import TextTask, noted, text_contents
from shipway.tasks.values import valued, valued_schema


@TASKS.register("text_regression")
class TextRegression(TextTask):
    """A text, or a list of texts, in; the numbers that the model predicts for each out.
    Labels, if there are any, name them."""

    output = "prediction"
    regresses = True

    def answers(
        self, outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
    ) -> list[Any]:
        """The values of each text, from predictions (B, …), with the notes on it."""
        values = valued(outputs, self._manifest.labels)
        return [{**each, **(note or {})} for each, note in zip(values, notes, strict=True)]

    @classmethod
    def native_schema(cls, manifest: Manifest) -> tuple[dict[str, Schema], Schema]:
        """A text or a list of texts; the values of each."""
        return text_contents(), one_or_several(noted(valued_schema(manifest)))
