"""Inputs from real prose: passages of one to sixteen sentences, reproducible by a seed.

B = texts, T = tokens.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from shipway.errors import ShipwayError
from shipway.export.errors import BadInputs
from shipway.payloads.texts import Texts
from shipway.recipe import Inputs, Recipe, Rows, TextPreprocessing

SENTENCES = (1, 2, 4, 16)
"""Sentences of a passage, in turns: from a query to more than most models read."""


def passages(files: Sequence[Path], *, rows: int, seed: int, of: str) -> Inputs:
    """`rows` passages from files: plain text, reStructuredText, or the docstrings of Python files.

    `of` describes the files, for the certificate. The passages of a file are one group. Loading
    raises BadInputs if they hold too few.
    """

    def load(recipe: Recipe) -> Rows:
        texts, groups = [], []
        for group, file in enumerate(files):
            for text in passages_of(file):
                texts.append(text)
                groups.append(group)
        if len(texts) < rows:
            raise BadInputs(
                f"The files contain {len(texts)} passages; {rows} are needed. Add "
                "files, or lower `rows`."
            )
        chosen = sorted(np.random.default_rng(seed).choice(len(texts), rows, replace=False))
        arrays = tokenized([texts[index] for index in chosen], recipe)
        return Rows(arrays, groups=np.array([groups[index] for index in chosen]))

    longest = max(SENTENCES)
    return Inputs(description=f"{rows} passages of 1 to {longest} sentences of {of}", load=load)


def tokenized(texts: Sequence[str], recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask of the texts, both int64 (B, T), padded to the longest text."""
    spec = recipe.preprocessing
    assert isinstance(spec, TextPreprocessing)
    tokenizer = Texts(recipe.files()[spec.tokenizer.removeprefix("files/")], spec)
    ids_B = []
    for tokens in tokenizer.encode(texts):
        if isinstance(tokens, ShipwayError):
            raise BadInputs(
                f'{tokens} Remove this text, or set too_long="truncate" in the recipe.'
            ) from tokens
        ids_B.append(tokens.ids)
    ids_BT = np.full((len(ids_B), max(map(len, ids_B))), spec.pad_id, np.int64)
    mask_BT = np.zeros_like(ids_BT)
    for row, ids in enumerate(ids_B):
        ids_BT[row, : len(ids)] = ids
        mask_BT[row, : len(ids)] = 1
    return ids_BT, mask_BT


def passages_of(file: Path) -> Iterator[str]:
    """The passages in one file, each sentence in one passage at most."""
    repeated = [
        sentence
        for text in _texts(file)
        for paragraph in re.split(r"\n\s*\n", text)
        for sentence in _sentences(paragraph)
    ]
    sentences = list(dict.fromkeys(repeated))  # similar functions have equal docstrings
    start = turn = 0
    while start + SENTENCES[turn] <= len(sentences):
        yield " ".join(sentences[start : start + SENTENCES[turn]])
        start, turn = start + SENTENCES[turn], (turn + 1) % len(SENTENCES)


def _texts(file: Path) -> Iterator[str]:
    if file.suffix != ".py":
        yield file.read_text()
        return
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


def _sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph; none for headings, tables, lists, code and formulas."""
    prose = re.sub(r":[a-z:]+:`~?([^`]*)`", r"\1", " ".join(paragraph.split()))
    prose = re.sub(r"\s*\[\w+\]_|[`*]|_(?=\W|$)", "", prose)
    if not re.fullmatch(r"[A-Z].*[.!?]", prose) or re.search(
        r"::| : |>>>|==|--|[|\\{}$<=]|\.\.", prose
    ):
        return []
    sentences = re.split(r"(?<=[a-z)][.!?])\s+(?=[A-Z])", prose)
    return [sentence for sentence in sentences if " " in sentence]
