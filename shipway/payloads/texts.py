"""Texts to token ids, as an artifact's preprocessing describes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Encoding, Tokenizer

from shipway.payloads.errors import BadText, TextTooLong
from shipway.recipe import TextPreprocessing

MAX_CHARACTERS = 1_000_000
"""The most characters of one text: a long book has as many."""
_CHARACTERS_AT_ONCE = 2**17
"""Of texts that are tokenized together: 40 MB of the tokenizer's memory, and 20 ms."""
_CHARACTERS_A_TOKEN = 64
"""Of a long text only a start of so many characters per token is tokenized: far more than any
tokenizer's average. Tokens near the cut may differ, so only those of its first half are used."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text, tokenized."""

    ids: np.ndarray
    """int64 (T,), special tokens included."""
    truncated: bool
    """Whether the end of the text was cut off, because it has more tokens than the model reads."""
    spans: Sequence[tuple[int, int] | None] = ()
    """Where in the text each token is, in characters: its start and its end; None for special
    tokens. Empty if they were not asked for."""


class Texts:
    """The tokenizer of one artifact."""

    def __init__(self, file: Path, spec: TextPreprocessing) -> None:
        """Reads the tokenizer from `file`."""
        self._spec = spec
        self._tokenizer = Tokenizer.from_file(str(file))
        # The file may hold a length and padding of an earlier use.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.enable_truncation(spec.max_length)
        self.vocabulary = 1 + max(self._tokenizer.get_vocab().values())
        """Ids are below this."""

    def encode(
        self, texts: Sequence[str], *, spans: bool = False
    ) -> list[Tokens | TextTooLong | BadText]:
        """The tokens of each text, or its error, in order; with where they are if asked for."""
        refused = {place: error for place, text in enumerate(texts) if (error := _error_of(text))}
        good = [place for place in range(len(texts)) if place not in refused]
        # The start of a very long text fills the model, and is far cheaper to tokenize.
        starts = [texts[place][: self._spec.max_length * _CHARACTERS_A_TOKEN] for place in good]
        found: dict[int, Tokens | TextTooLong | BadText] = dict(refused)
        for place, start, encoding in zip(good, starts, self._encodings(starts), strict=True):
            text = texts[place]
            if len(start) < len(text) and not _settled(encoding, start):
                [encoding] = self._together([text])
            cut = bool(encoding.overflowing)
            if cut and self._spec.too_long == "refuse":
                found[place] = TextTooLong(
                    f"The text is too long: its {len(text):,} characters have more than the "
                    f"{self._spec.max_length} tokens that this model accepts. Send a shorter "
                    "text."
                )
            elif not encoding.ids:
                found[place] = BadText(
                    "The text has no tokens for this model. Send a text with words."
                )
            else:
                where = _spans_of(encoding) if spans else ()
                found[place] = Tokens(np.array(encoding.ids, np.int64), cut, where)
        return [found[place] for place in range(len(texts))]

    def _encodings(self, texts: Sequence[str]) -> Iterator[Encoding]:
        """The tokenizer's answers, a few texts at a time: each holds some hundred bytes a token,
        those of the end that is cut off too."""
        first = 0
        while first < len(texts):
            last, characters = first, 0
            while last < len(texts) and (last == first or characters < _CHARACTERS_AT_ONCE):
                characters += len(texts[last])
                last += 1
            yield from self._together(texts[first:last])
            first = last

    def _together(self, texts: Sequence[str]) -> list[Encoding]:
        """Other threads go on meanwhile: `encode_batch` releases the interpreter's lock, which
        `encode` holds, for a second if a text is one long word."""
        found: list[Encoding] = self._tokenizer.encode_batch(texts)
        return found


def _spans_of(encoding: Encoding) -> list[tuple[int, int] | None]:
    special = encoding.special_tokens_mask
    return [
        None if of_the_model else span
        for span, of_the_model in zip(encoding.offsets, special, strict=True)
    ]


def _settled(encoding: Encoding, start: str) -> bool:
    """Whether the tokens of a text's start are also those of the whole text."""
    last = max((end for _, end in encoding.offsets), default=0)
    return bool(encoding.overflowing) and last <= len(start) // 2


def _error_of(text: str) -> TextTooLong | BadText | None:
    if len(text) > MAX_CHARACTERS:
        return TextTooLong(
            f"The text has {len(text):,} characters, and at most {MAX_CHARACTERS:,} are accepted. "
            "Send a shorter text."
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        return BadText(
            "The text contains an unpaired surrogate, which is not a valid character. Send "
            "valid Unicode."
        )
    return None
