"""Token classification: a text, or a list of texts, in; the entities of each out.

T = tokens, K = labels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shipway.artifact.manifest import Manifest
from shipway.payloads.schemas import Schema, an_object, one_or_several
from shipway.tasks import TASKS
from shipway.tasks.classes import probabilities_of
from shipway.tasks.texts import TextTask, noted, text_contents

OUTSIDE = "O"
"""The label of what is no entity."""
BEGINS, GOES_ON = "B-", "I-"
"""Before the name of an entity, in the scheme BIO (Ramshaw and Marcus, 1995)."""


@TASKS.register("token_classification")
class TokenClassification(TextTask):
    """A text, or a list of texts, in; the entities of each out. Tokens next to each other that have
    the same label are one entity, unless the second begins one."""

    output = "logits"
    tags = True
    needs_spans = True

    def answers(
        self, outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
    ) -> list[Any]:
        """The entities of each text, from logits (B, T, K), with the notes on it."""
        return [
            self._answer(logits_TK, dict(note or {}))
            for logits_TK, note in zip(outputs[0], notes, strict=True)
        ]

    def _answer(self, logits_TK: np.ndarray, note: dict[str, Any]) -> dict[str, Any]:
        text, spans = note.pop("_text"), note.pop("_spans")
        # Shorter texts of a batch are padded.
        found = entities(text, spans, logits_TK[: len(spans)], self._manifest.labels)
        return {"entities": found, **note}

    @classmethod
    def native_schema(cls, manifest: Manifest) -> tuple[dict[str, Schema], Schema]:
        """A text or a list of texts; the entities of each."""
        place: Schema = {"type": "integer", "minimum": 0}
        entity = an_object(
            {
                "label": {"type": "string"},
                "start": place,
                "end": place,
                "text": {"type": "string"},
                "score": {"type": "number", "minimum": 0, "maximum": 1},
            }
        )
        answer = noted({"entities": {"type": "array", "items": entity}})
        return text_contents(), one_or_several(answer)


def entities(
    text: str,
    spans: Sequence[tuple[int, int] | None],
    logits_TK: np.ndarray,
    labels: Sequence[str],
) -> list[dict[str, Any]]:
    """The entities of a text, in order, with the mean probability of their tokens' labels. `spans`
    has the place of each token in it, None for special tokens."""
    probabilities_TK = probabilities_of(logits_TK, "logits")
    found: list[dict[str, Any]] = []
    scores: list[list[float]] = []
    before = OUTSIDE
    for span, probabilities_K in zip(spans, probabilities_TK, strict=True):
        if span is None:
            continue
        best = int(probabilities_K.argmax())
        name = labels[best].removeprefix(BEGINS).removeprefix(GOES_ON)
        if name != OUTSIDE:
            if name != before or labels[best].startswith(BEGINS):
                found.append({"label": name, "start": span[0], "end": span[1]})
                scores.append([])
            found[-1]["end"] = span[1]
            scores[-1].append(float(probabilities_K[best]))
        before = name
    for entity, each in zip(found, scores, strict=True):
        entity["text"] = text[entity["start"] : entity["end"]]
        entity["score"] = sum(each) / len(each)
    return found
