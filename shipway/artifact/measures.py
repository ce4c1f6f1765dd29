"""How far a program's outputs are from eager PyTorch's, by what each output means.

Every error is relative to the spread of eager's outputs over the evaluation rows, so a program that
answers the same for every input has an error of 1 however large the outputs are.
docs/verification.md explains each measure.

N = rows, K = numbers of a row.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

OutputKind = Literal["scores", "embedding", "values", "labels"]
"""Scores of classes; a vector whose direction has a meaning; numbers that each have a meaning;
integers or booleans, which are equal or not."""

COLUMNS = 64
"""Values with up to this many numbers a row are measured column by column, and the worst counts:
columns may have different units. Longer rows are measured together."""
RESOLUTION = 8
"""Differences below this many units in the last place, in the outputs' own type, are no error: a
model that answers 1,000,000 ± 1 in float32 cannot be measured more finely."""
ROW_FACTOR = 4
"""How many times the error over all rows a single row may have. Of 500 normally distributed errors
the largest is 3.1 times their root mean square, in the mean."""
NORM_SHARE = 0.1
"""A row shorter than this share of the typical row has no direction worth comparing."""


def kind_of(array: np.ndarray, declared: OutputKind) -> OutputKind:
    """What an output is: "labels" for integers and booleans, else what the task declares."""
    return declared if np.issubdtype(array.dtype, np.floating) else "labels"


def by_column(array: np.ndarray, kind: OutputKind) -> bool:
    """Whether the numbers of a row are measured each on its own."""
    return kind == "values" and array[:1].size <= COLUMNS and array.ndim <= 2


def spread_of(reference: np.ndarray, kind: OutputKind) -> tuple[float, ...]:
    """How far eager's outputs (N, …) are from the best constant answer.

    For numbers the root mean square distance from their mean over the rows, for each column if
    `by_column`, else for a whole row. For labels the share that differs from the most common one.
    0 where all rows are alike.
    """
    if kind == "labels":
        return (_share_off_the_mode(_flat(reference)),)
    values_NK = _numbers(reference)
    deviation_K = values_NK.std(axis=0)
    resolution_K = _resolution(reference, values_NK)
    deviation_K = np.where(deviation_K > resolution_K, deviation_K, 0.0)
    if by_column(reference, kind):
        return tuple(float(deviation) for deviation in deviation_K)
    return (float(np.sqrt((deviation_K**2).sum())),)


def errors_of(
    reference: np.ndarray, candidate: np.ndarray, kind: OutputKind, spread: Sequence[float]
) -> tuple[float, np.ndarray]:
    """The error over all rows, and that of each row, (N,), relative to `spread`; both (N, …).

    NaN where a number of `candidate` is not finite, or where the shapes differ. `reference` is
    finite.
    """
    if candidate.shape != reference.shape:
        return float("nan"), np.full(len(reference), np.nan)
    if kind == "labels":
        wrong_NK = _flat(reference) != _flat(candidate)
        # Without any spread one wrong label is one too many.
        share = max(spread[0], 1 / max(1, wrong_NK.size))
        return float(wrong_NK.mean() / share), wrong_NK.mean(axis=1) / share
    with np.errstate(invalid="ignore", over="ignore"):
        difference_NK = _flat(candidate).astype(np.float64) - _flat(reference)
    difference_NK[~np.isfinite(difference_NK)] = np.nan
    values_NK = _numbers(reference)
    resolution_K = _resolution(reference, values_NK)
    difference_NK = np.maximum(np.abs(difference_NK) - resolution_K, 0.0)
    if by_column(reference, kind):
        scale_K = _scales(np.asarray(spread), values_NK)
        error_K = np.sqrt((difference_NK**2).mean(axis=0)) / scale_K
        return float(error_K.max()), (difference_NK / scale_K).max(axis=1)
    (scale,) = _scales(np.asarray(spread), values_NK)
    error_N = np.sqrt((difference_NK**2).sum(axis=1)) / scale
    return float(np.sqrt((error_N**2).mean())), error_N


def cosines(a_NK: np.ndarray, b_NK: np.ndarray) -> np.ndarray:
    """The cosine of each pair of rows, (N,); 1 where the row of `a_NK` has no direction.

    That is, where it is shorter than NORM_SHARE of the root mean square length. NaN where a number
    is not finite.
    """
    lengths_N = np.linalg.norm(a_NK, axis=1)
    typical = float(np.sqrt((lengths_N**2).mean()))
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines_N: np.ndarray = (a_NK * b_NK).sum(axis=1) / (
            lengths_N * np.linalg.norm(b_NK, axis=1)
        )
    has_none_N = ~(lengths_N > NORM_SHARE * typical)
    finite_N = np.isfinite(a_NK).all(axis=1) & np.isfinite(b_NK).all(axis=1)
    # A row of zeros beside one that has a direction points nowhere.
    cosines_N = np.where(finite_N & ~np.isfinite(cosines_N), 0.0, cosines_N)
    return np.where(has_none_N & finite_N, 1.0, cosines_N)


def allowed_change(reference: np.ndarray, share: float) -> float:
    """By how much a float may change between two runs that should give the same.

    A `share` of the largest distance of `reference`, (N, …), from its mean over the rows, and
    RESOLUTION.
    """
    values_NK = _numbers(reference)
    distance = float(np.abs(values_NK - values_NK.mean(axis=0)).max(initial=0.0))
    largest = float(np.abs(values_NK).max(initial=0.0))
    return share * distance + RESOLUTION * float(np.finfo(reference.dtype).eps) * largest


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(len(array), -1)


def _numbers(array: np.ndarray) -> np.ndarray:
    """Rows as float64, (N, K)."""
    return _flat(array).astype(np.float64)


def _resolution(reference: np.ndarray, values_NK: np.ndarray) -> np.ndarray:
    eps = float(np.finfo(reference.dtype).eps)
    size_K: np.ndarray = np.sqrt((values_NK**2).mean(axis=0))
    return RESOLUTION * eps * size_K


def _scales(spread: np.ndarray, values_NK: np.ndarray) -> np.ndarray:
    """The spread; where it is 0, the spread of all columns, then the outputs' size, then 1."""
    together = float(np.sqrt((spread**2).mean()))
    fallback = together or float(np.sqrt((values_NK**2).mean())) or 1.0
    return np.where(spread > 0, spread, fallback)


def _share_off_the_mode(labels_NK: np.ndarray) -> float:
    labels_NK = np.sort(labels_NK, axis=0)
    rows = len(labels_NK)
    # The longest run of equal labels in each sorted column.
    longest_K = np.ones(labels_NK.shape[1], int)
    run_K = np.ones_like(longest_K)
    for row in range(1, rows):
        run_K = np.where(labels_NK[row] == labels_NK[row - 1], run_K + 1, 1)
        longest_K = np.maximum(longest_K, run_K)
    return float(1 - longest_K.mean() / rows)
