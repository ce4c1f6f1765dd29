"""From texts to token ids, as an artifact's preprocessing says."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Encoding, Tokenizer

from shipway.payloads.errors import BadText, TextTooLong
from shipway.recipe import TextPreprocessing

MAX_CHARACTERS = 1_000_000
"""Of one text, a long book's."""
_CHARACTERS_A_TOKEN = 64
"""Far more than any tokenizer's average, so that nearly every long text's start suffices: its first
half, since near to where it was cut off, words and thereby tokens may be others."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text, tokenized."""

    ids: np.ndarray
    """int64 (tokens,), the special ones included."""
    truncated: bool
    """Whether the text's end was left out, being over the model's length."""


class Texts:
    """The tokenizer of one artifact."""

    def __init__(self, file: Path, spec: TextPreprocessing) -> None:
        self._spec = spec
        self._tokenizer = Tokenizer.from_file(str(file))
        # The file may bring its own length and padding, from whatever it was last used for.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.enable_truncation(spec.max_length)
        self.vocabulary = 1 + max(self._tokenizer.get_vocab().values())
        """Ids are below this."""

    def encode(self, texts: Sequence[str]) -> list[Tokens | TextTooLong | BadText]:
        """Each text's tokens, or why there are none."""
        refused = {place: why for place, text in enumerate(texts) if (why := _why_not(text))}
        good = [place for place in range(len(texts)) if place not in refused]
        # Of a very long text the start is enough to fill the model, and far cheaper to read.
        starts = [texts[place][: self._spec.max_length * _CHARACTERS_A_TOKEN] for place in good]
        found: dict[int, Tokens | TextTooLong | BadText] = dict(refused)
        for place, start, encoding in zip(
            good, starts, self._tokenizer.encode_batch(starts), strict=True
        ):
            text = texts[place]
            if len(start) < len(text) and not _settled(encoding, start):
                encoding = self._tokenizer.encode(text)
            cut = bool(encoding.overflowing)
            if cut and self._spec.too_long == "refuse":
                found[place] = TextTooLong(
                    f"The text has {len(text):,} characters, which are more than the "
                    f"{self._spec.max_length} tokens that this model reads. Send a shorter one."
                )
            elif not encoding.ids:
                found[place] = BadText("The text has no tokens; for this model it is empty.")
            else:
                found[place] = Tokens(np.array(encoding.ids, np.int64), cut)
        return [found[place] for place in range(len(texts))]


def _settled(encoding: Encoding, start: str) -> bool:
    """Whether the tokens of a text's start are those of the whole text."""
    last = max((end for _, end in encoding.offsets), default=0)
    return bool(encoding.overflowing) and last <= len(start) // 2


def _why_not(text: str) -> TextTooLong | BadText | None:
    if len(text) > MAX_CHARACTERS:
        return TextTooLong(
            f"The text has {len(text):,} characters; at most {MAX_CHARACTERS:,} are accepted."
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        return BadText("The text holds half a surrogate pair, which is no character.")
    return None
