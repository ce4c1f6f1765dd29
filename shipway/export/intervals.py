"""The confidence interval of a median, without an assumption about the distribution."""

from collections.abc import Sequence
from math import comb

CONFIDENCE = 0.95
FEWEST = 6
"""With fewer values not even the smallest and the largest enclose the median with 95%."""


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95% confidence interval of the median of independent values, None for less than six.

    It lies between two order statistics. The number of values below the true median is binomial
    with p = 1/2, so the k-th smallest and the k-th largest of n enclose it with a probability of
    1 − 2 P(B(n, 1/2) < k), at least 95% here (the sign-test interval; Hahn and Meeker, "Statistical
    Intervals", 1991, section 5.2).
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
