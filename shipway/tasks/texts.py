"""The half that tasks for texts share: a text, or a list of texts, to token ids."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from shipway.errors import ShipwayError
from shipway.payloads.errors import BadRequest, BadTensor, InternalError
from shipway.payloads.request import (
    JSON,
    Request,
    as_text,
    check_count,
    json_type,
    looks_like_json,
    only_key,
    parse_json,
    value_of,
)
from shipway.payloads.schemas import Schema, an_object, one_or_several
from shipway.payloads.texts import MAX_CHARACTERS, Texts, Tokens
from shipway.recipe import TextPreprocessing
from shipway.runtime.model import Model
from shipway.tasks import demo_inputs
from shipway.tasks.base import Decoded, Example, Inputs, Task, preprocessing_of

logger = logging.getLogger(__name__)

FIELDS = ("body", "data", "text", "texts")
ACCEPTED = (
    'Send a text as the body, JSON such as "a text" or ["one", "two"] or {"text": …}, or a '
    "form with a field `text`."
)


class TextTask(Task):
    """Reads texts. Subclasses say what the outputs mean."""

    bytes_tensor = "text"
    needs_spans: ClassVar[bool] = False
    """Whether `answers` needs each text and where its tokens are: as the notes `_text`, `_spans`,
    which are not for clients."""

    def __init__(self, model: Model) -> None:
        spec = preprocessing_of(model.manifest, TextPreprocessing)
        self._manifest = model.manifest
        self._texts = Texts(model.artifact.path / spec.tokenizer, spec)

    def parse(self, request: Request) -> Inputs:
        """The texts of a request. Raises BadRequest or TooManyRows."""
        value = value_of(request, FIELDS, ACCEPTED)
        if isinstance(value, bytes | bytearray):
            # No content type, as over gRPC: JSON or a text.
            value = parse_loosely(value)
        if isinstance(value, Mapping):
            value = only_key(value, FIELDS[1:], ACCEPTED)
        many = isinstance(value, list)
        texts = value if many else [value]
        check_count(len(texts), "texts")
        texts = [as_text(each) if isinstance(each, bytes) else each for each in texts]
        for text in texts:
            if not isinstance(text, str):
                raise BadRequest(f"A text is a JSON {json_type(text)}, not a string. {ACCEPTED}")
        return Inputs(texts, many)

    def parse_bytes(self, data: bytes) -> str:
        """An element is one text in UTF-8."""
        return as_text(data)

    def decode(self, items: Sequence[str]) -> list[Decoded | ShipwayError]:
        """The ids and mask of each text, int64 (T,), with the notes `tokens` and `truncated`."""
        start = time.perf_counter()
        found = self._encoded(items)
        each_ms = 1000 * (time.perf_counter() - start) / max(1, len(items))
        return [
            each
            if isinstance(each, ShipwayError)
            else Decoded(
                (each.ids, np.ones_like(each.ids)),
                {"tokens": len(each.ids), "truncated": each.truncated}
                | ({"_text": text, "_spans": each.spans} if self.needs_spans else {}),
                each_ms,
            )
            for text, each in zip(items, found, strict=True)
        ]

    def _encoded(self, items: Sequence[str]) -> Sequence[Tokens | ShipwayError]:
        try:
            return self._texts.encode(items, spans=self.needs_spans)
        except Exception:  # whatever one text causes, the others are answered
            logger.exception("tokenizing %d texts failed", len(items))
            if len(items) > 1:
                return [each for item in items for each in self._encoded([item])]
            return [InternalError("The text could not be read. The server's log has the cause.")]

    @classmethod
    def examples(cls, tensors: Sequence[Mapping[str, Any]]) -> Sequence[Example]:
        """Sentences, if scikit-learn is installed."""
        return demo_inputs.texts()

    def check(self, arrays: tuple[np.ndarray, ...]) -> None:
        """Refuses ids outside of the vocabulary, and masks that are not of 0 and 1."""
        ids_BT, mask_BT = arrays
        if ids_BT.min() < 0 or ids_BT.max() >= self._texts.vocabulary:
            raise BadTensor(
                f"{self._manifest.inputs[0].name!r} contains token ids outside of the "
                f"vocabulary. Send ids from 0 to {self._texts.vocabulary - 1}."
            )
        if not np.isin(mask_BT, (0, 1)).all() or not mask_BT.any(axis=1).all():
            raise BadTensor(
                f"{self._manifest.inputs[1].name!r} is not a mask. "
                "Send 0 and 1 only, with a 1 in every row."
            )


def text_contents() -> dict[str, Schema]:
    """The schema of a request by content type, for OpenAPI."""
    text = {"type": "string", "maxLength": MAX_CHARACTERS}
    body = one_or_several(text)
    return {JSON: {"anyOf": [*body["anyOf"], an_object({"text": body})]}, "text/plain": text}


def noted(answer: dict[str, Schema]) -> Schema:
    """The schema of an answer, with the notes on its text."""
    return an_object(answer | {"tokens": {"type": "integer"}, "truncated": {"type": "boolean"}})


def parse_loosely(value: bytes | bytearray) -> Any:
    """JSON if the bytes are JSON, otherwise text. Raises BadRequest unless they are UTF-8."""
    if looks_like_json(value):
        try:
            return parse_json(value, ACCEPTED)
        except BadRequest:
            pass
    return as_text(value)
