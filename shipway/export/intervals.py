"""The confidence interval of a median, without an assumption about the distribution."""

from collections.abc import Sequence
from math import ceil, comb, log2

CONFIDENCE = 0.95
"""Of every interval and bound of an export. The bound of a loss is one-sided, and holds for all
candidates of an export together."""
FEWEST = ceil(1 - log2(1 - CONFIDENCE))
"""With fewer values not even the smallest and the largest enclose the median with this confidence:
of n values they do with a probability of 1 − 2 / 2^n."""


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The confidence interval of the median of independent values, None for less than FEWEST.

    It lies between two order statistics. The number of values below the true median is binomial
    with p = 1/2, so the k-th smallest and the k-th largest of n enclose it with a probability of
    1 − 2 P(B(n, 1/2) < k), here at least CONFIDENCE (the sign-test interval; Hahn and Meeker,
    "Statistical Intervals", 1991, section 5.2).
    """
    count = len(values)
    outside, rank = 0.0, 0
    while True:
        outside += 2 * comb(count, rank) / 2**count
        if outside > 1 - CONFIDENCE:
            break
        rank += 1
    if rank == 0:
        return None
    ordered = sorted(values)
    return ordered[rank - 1], ordered[count - rank]
