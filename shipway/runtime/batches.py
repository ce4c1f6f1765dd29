"""From rows of input to the batches that programs take.

B = rows of a batch, T = tokens.
"""

from collections.abc import Iterator

import numpy as np

from shipway.recipe import Axis, TensorSpec

Arrays = tuple[np.ndarray, ...]
"""One array for each input of a program, all with the same number of rows."""


FEW_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)

TOKENS = ("input_ids", "attention_mask")
"""The names of the inputs of TextPreprocessing. Other inputs of these shapes are cut nowhere."""


def is_text(inputs: tuple[TensorSpec, ...]) -> bool:
    """Whether the inputs are token ids and attention mask, both (B, T) with dynamic T."""
    return tuple(spec.name for spec in inputs) == TOKENS and all(
        len(spec.shape) == 2 and isinstance(spec.shape[1], Axis) for spec in inputs
    )


def batches(arrays: Arrays, inputs: tuple[TensorSpec, ...], size: int) -> Iterator[Arrays]:
    """The rows in order, at most `size` in a batch; texts are cut to the longest of the batch."""
    for start in range(0, len(arrays[0]), size):
        batch = tuple(array[start : start + size] for array in arrays)
        if is_text(inputs):
            longest = max(2, int(batch[1].sum(axis=1).max()))
            batch = tuple(np.ascontiguousarray(array[:, :longest]) for array in batch)
        yield batch


def shaped(arrays: Arrays, inputs: tuple[TensorSpec, ...], rows: int, length: int | None) -> Arrays:
    """One batch of `rows` rows; for texts, of `length` tokens each and without padding.

    Rows and tokens are repeated as often as needed.
    """
    if not is_text(inputs) or length is None:
        return tuple(
            np.ascontiguousarray(np.resize(array, (rows, *array.shape[1:]))) for array in arrays
        )
    ids_BT, mask_BT = arrays
    tokens = ids_BT[mask_BT == 1]
    ids = np.resize(tokens, (rows, length)).astype(ids_BT.dtype)
    return ids, np.ones_like(ids)


def served_sizes(most: int, *, few: bool) -> list[int]:
    """The batch sizes that a program is run with, up to `most`; `few` for those that prepare for
    each size and for texts, whose lengths vary too."""
    if few:
        return [*(size for size in FEW_SIZES if size < most), most]
    return list(range(1, most + 1))
