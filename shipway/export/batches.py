"""Rows of input to the batches that programs take.

B = rows of a batch, T = tokens.
"""

from collections.abc import Iterator

import numpy as np

from shipway.recipe import Axis, TensorSpec

Arrays = tuple[np.ndarray, ...]


def is_text(inputs: tuple[TensorSpec, ...]) -> bool:
    """Whether the inputs are ids and mask of varying length."""
    return len(inputs) == 2 and all(
        len(each.shape) == 2 and isinstance(each.shape[1], Axis) for each in inputs
    )


def batches(arrays: Arrays, inputs: tuple[TensorSpec, ...], size: int) -> Iterator[Arrays]:
    """The rows in order, at most `size` at a time; texts only as long as their longest."""
    for start in range(0, len(arrays[0]), size):
        batch = tuple(each[start : start + size] for each in arrays)
        if is_text(inputs):
            longest = max(2, int(batch[1].sum(axis=1).max()))
            batch = tuple(np.ascontiguousarray(each[:, :longest]) for each in batch)
        yield batch


def shaped(arrays: Arrays, inputs: tuple[TensorSpec, ...], rows: int, length: int | None) -> Arrays:
    """One batch of `rows`; for texts of exactly `length` tokens, none of them padding.

    The rows are repeated as often as needed, and so are a text's tokens.
    """
    if not is_text(inputs) or length is None:
        return tuple(
            np.ascontiguousarray(np.resize(each, (rows, *each.shape[1:]))) for each in arrays
        )
    ids_BT, mask_BT = arrays
    tokens = ids_BT[mask_BT == 1]
    ids = np.resize(tokens, (rows, length)).astype(ids_BT.dtype)
    return ids, np.ones_like(ids)
