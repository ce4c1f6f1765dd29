"""Rows to batches, texts only as long as they are."""

import numpy as np
import pytest

from shipway.recipe import Axis, TensorSpec
from shipway.runtime.batches import batches, is_text, shaped

BATCH = Axis(name="batch", max=32)
TABLE = (TensorSpec(name="x", dtype="float32", shape=(BATCH, 2)),)
TEXTS = tuple(
    TensorSpec(name=name, dtype="int64", shape=(BATCH, Axis(name="length", min=2, max=8)))
    for name in ("input_ids", "attention_mask")
)


@pytest.fixture
def texts() -> tuple[np.ndarray, np.ndarray]:
    """Three texts of 1, 3 and 5 tokens, padded to 8."""
    ids_BT, mask_BT = np.zeros((2, 3, 8), np.int64)
    for row, length in enumerate((1, 3, 5)):
        ids_BT[row, :length] = 10 * (row + 1) + np.arange(length)
        mask_BT[row, :length] = 1
    return ids_BT, mask_BT


def test_all_rows_come_in_order_and_the_last_batch_may_be_smaller():
    rows = np.arange(14, dtype=np.float32).reshape(7, 2)
    parts = [batch for (batch,) in batches((rows,), TABLE, 3)]
    assert [len(part) for part in parts] == [3, 3, 1]
    assert np.array_equal(np.concatenate(parts), rows)


def test_texts_are_cut_to_the_longest_of_their_batch_but_to_two_tokens_at_least(texts):
    lengths = [ids.shape[1] for ids, _ in batches(texts, TEXTS, 1)]
    assert lengths == [2, 3, 5]
    assert [ids.shape for ids, _ in batches(texts, TEXTS, 2)] == [(2, 3), (1, 5)]


def test_a_shaped_batch_of_texts_has_no_padding(texts):
    ids, mask = shaped(texts, TEXTS, 2, 6)
    assert ids.shape == mask.shape == (2, 6)
    assert mask.all() and ids.all(), "0 is the padding"


def test_a_shaped_batch_repeats_rows_as_often_as_needed():
    (rows,) = shaped((np.array([[1, 2], [3, 4]], np.float32),), TABLE, 5, None)
    assert rows[:, 0].tolist() == [1, 3, 1, 3, 1]


def test_only_token_ids_with_their_mask_are_texts():
    assert is_text(TEXTS) and not is_text(TABLE) and not is_text(TEXTS[:1])


def test_rows_of_other_inputs_of_the_same_shapes_stay_whole():
    series = tuple(
        spec.model_copy(update={"name": name, "dtype": "float32"})
        for spec, name in zip(TEXTS, ("price", "volume"), strict=True)
    )
    assert not is_text(series)
    price_BT, volume_BT = np.full((2, 3, 20), 0.1, np.float32)
    [(price, volume)] = batches((price_BT, volume_BT), series, 4)
    assert price.shape == volume.shape == (3, 20)
