"""What a candidate loses compared with eager PyTorch, in points, with a confidence bound.

docs/verification.md explains the units, the bound, and what they cannot see.

N = evaluation rows, K = numbers of a row, G = groups of rows.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import atan, cos, pi, sin, sqrt
from statistics import NormalDist

import numpy as np

from shipway.artifact.certificate import Loss, LossUnit, OutputMeasure
from shipway.artifact.measures import COLUMNS, OutputKind, cosines
from shipway.export.intervals import CONFIDENCE
from shipway.recipe import Scores
from shipway.tasks.classes import probabilities_of

CORRELATION = 0.05
"""How alike the losses of two rows of one group are taken to be before any is seen. On crops of
photos, int8 programs of EfficientNet-Lite0 had correlations of 0.01 to 0.03."""
RESOLUTION = 1e-4
"""The relative error that fp32 programs may have: less is not told from no error."""
MOST_GROUPS = 2**24
SERIES_UP_TO = 200
"""Degrees of freedom up to which Student's distribution is summed; above, an expansion is exact
to seven digits."""


def largest_loss(
    references: Mapping[str, np.ndarray],
    outputs: Sequence[np.ndarray],
    measures: Sequence[OutputMeasure],
    targets_N: np.ndarray | None = None,
    groups_N: np.ndarray | None = None,
) -> Loss | None:
    """The loss of the output that loses most by its bound; None if one cannot be compared.

    `references` are eager's outputs by name, `outputs` the candidate's in the same order; see
    `loss_of`. `targets_N` are the true classes of the first output.
    """
    losses = [
        loss_of(
            reference,
            output,
            kind=measure.kind,
            scores=measure.scores or "logits",
            targets_N=targets_N if index == 0 else None,
            groups_N=groups_N,
        )
        for index, (reference, output, measure) in enumerate(
            zip(references.values(), outputs, measures, strict=True)
        )
    ]
    known = [loss for loss in losses if loss is not None]
    return max(known, key=lambda loss: loss.bound) if len(known) == len(losses) else None


def loss_of(
    reference: np.ndarray,
    candidate: np.ndarray,
    *,
    kind: OutputKind,
    scores: Scores = "logits",
    targets_N: np.ndarray | None = None,
    groups_N: np.ndarray | None = None,
) -> Loss | None:
    """What one output loses, from eager's and the candidate's outputs for the same rows, (N, …).

    `targets_N` are the true classes, used if the output is scores of exclusive classes. Rows with
    the same number in `groups_N` count as one observation; None if every row is one. The bound
    stands for one candidate alone; `corrected` makes it that of several. None if the outputs cannot
    be compared, since their shapes differ or the candidate's are not finite where eager's are.
    """
    reference_NK = reference.reshape(len(reference), -1)
    candidate_NK = candidate.reshape(len(candidate), -1)
    if reference.shape != candidate.shape or not _finite_alike(reference_NK, candidate_NK):
        return None
    agreement: float | None = None
    unit: LossUnit
    if kind == "labels" or not np.issubdtype(reference.dtype, np.floating):
        unit, lost_N, unseen = "agreement", (reference_NK != candidate_NK).mean(axis=1), 1.0
        agreement = 1 - float(lost_N.mean())
    elif kind == "scores":
        unit, lost_N, unseen, agreement = _of_scores(reference_NK, candidate_NK, scores, targets_N)
    else:
        measure = _cosine_lost if kind == "embedding" else _variance_lost
        unit = "cosine" if kind == "embedding" else "variance"
        lost_N = measure(reference_NK.astype(np.float64), candidate_NK.astype(np.float64))
        unseen = max(float(lost_N.max()), RESOLUTION**2)
    return _bounded(unit, lost_N, unseen, groups_N, agreement)


def corrected(loss: Loss, compared: int) -> Loss:
    """The same loss, with the bound for one of `compared` candidates (Bonferroni)."""
    compared = max(compared, loss.compared)
    bound = upper_bound(loss.centre, loss.standard_error, loss.clusters, compared)
    return loss.model_copy(update={"compared": compared, "bound": bound})


def bound_if_unchanged(loss: Loss, groups: int | None = None) -> float:
    """The bound, in points, if no row had lost anything. `groups` of the same size, or those seen.

    It is more than zero, because a row that changes may be rare.
    """
    count = groups or loss.clusters
    size = loss.rows / loss.clusters
    weight = _weight(size)
    centre = weight * loss.one_row / (count * size + weight)
    squares = count * (size * centre) ** 2 + (weight * (loss.one_row - centre)) ** 2
    error = sqrt(squares * (count + 1) / count) / (count * size + weight)
    return upper_bound(centre, error, count, loss.compared)


def upper_bound(centre: float, standard_error: float, clusters: int, compared: int) -> float:
    """The upper confidence bound of a mean loss, in the unit of `centre`: with CONFIDENCE, none of
    `compared` candidates loses more than its own.

    The larger one of two. Student's is right for many small losses. Where few rows lose much, the
    mean is skewed, and Fay & Feuer's (1997), the quantile of a gamma distribution of the same mean
    and variance, is larger; if nothing was lost, it is the "rule of three". The quantile is
    Wilson & Hilferty's (1931).
    """
    probability = 1 - (1 - CONFIDENCE) / compared
    students = centre + student_quantile(probability, clusters) * standard_error
    if centre <= 0 or standard_error == 0:
        return students
    z, shape = NormalDist().inv_cdf(probability), (centre / standard_error) ** 2
    return max(students, centre * (1 - 1 / (9 * shape) + z / (3 * sqrt(shape))) ** 3)


def rows_needed(loss: Loss, budget: float) -> tuple[int, int] | None:
    """The fewest rows, and groups of today's size, with which an unchanged program keeps `budget`.

    None if there is no such number, as for a budget of 0.
    """
    few, many = 1, 2
    while bound_if_unchanged(loss, many) > budget:
        few, many = many, 2 * many
        if many > MOST_GROUPS:
            return None
    while many - few > 1:
        middle = (few + many) // 2
        if bound_if_unchanged(loss, middle) > budget:
            few = middle
        else:
            many = middle
    return int(np.ceil(many * loss.rows / loss.clusters)), many


def _finite_alike(reference_NK: np.ndarray, candidate_NK: np.ndarray) -> bool:
    return bool(np.isfinite(candidate_NK[np.isfinite(reference_NK)]).all())


def _of_scores(
    reference_NK: np.ndarray,
    candidate_NK: np.ndarray,
    scores: Scores,
    targets_N: np.ndarray | None,
) -> tuple[LossUnit, np.ndarray, float, float]:
    """The unit, the loss of each row, that of a typical row that changes, and the agreement."""
    # The logit of the second of two classes is that of one label.
    scores = "multi_label" if scores == "binary" else scores
    belief_NK = probabilities_of(reference_NK, scores)
    rows = np.arange(len(belief_NK))
    by_label = scores == "multi_label" or belief_NK.shape[1] == 1
    if by_label:
        other_NK = probabilities_of(candidate_NK, scores)
        differs_NK = (belief_NK > 0.5) != (other_NK > 0.5)
        margin_NK = np.abs(2 * belief_NK - 1)
        lost_N = (differs_NK * margin_NK).mean(axis=1)
        unseen = float(np.median(margin_NK)) / margin_NK.shape[1]
        agreement = 1 - float(differs_NK.mean())
        eager_N, ours_N = belief_NK[:, 0] > 0.5, other_NK[:, 0] > 0.5
    else:
        eager_N, ours_N = reference_NK.argmax(axis=1), candidate_NK.argmax(axis=1)
        # Of classes that eager scores alike, either is right: such a row loses nothing.
        lost_N = belief_NK[rows, eager_N] - belief_NK[rows, ours_N]
        second_N = np.partition(belief_NK, -2, axis=1)[:, -2]
        unseen = float(np.median(belief_NK[rows, eager_N] - second_N))
        agreement = float((lost_N <= 0).mean())
    if targets_N is None or (by_label and belief_NK.shape[1] > 1):
        return "belief", lost_N, unseen, agreement
    paired_N = (eager_N == targets_N).astype(np.float64) - (ours_N == targets_N)
    return "accuracy", paired_N, 1.0, agreement


def _cosine_lost(reference_NK: np.ndarray, candidate_NK: np.ndarray) -> np.ndarray:
    """1 − cosine of each row; 0 where eager's row is too short to have a direction."""
    lost_N: np.ndarray = 1 - np.nan_to_num(cosines(reference_NK, candidate_NK), nan=0.0)
    return np.maximum(lost_N, 0.0)


def _variance_lost(reference_NK: np.ndarray, candidate_NK: np.ndarray) -> np.ndarray:
    """The squared error of each row by the variance of eager's outputs over the rows."""
    finite_NK = np.where(np.isfinite(reference_NK), reference_NK, 0.0)
    with np.errstate(invalid="ignore"):
        error_NK = np.where(reference_NK == candidate_NK, 0.0, candidate_NK - reference_NK) ** 2
    size_K = RESOLUTION * np.sqrt((finite_NK**2).mean(axis=0))
    variance_K = np.maximum(finite_NK.var(axis=0), size_K**2)
    if len(variance_K) > COLUMNS:
        error_NK, variance_K = error_NK.mean(axis=1, keepdims=True), variance_K.mean(keepdims=True)
    lost_NK = error_NK / np.where(variance_K > 0, variance_K, 1.0)
    worst: np.ndarray = lost_NK[:, lost_NK.mean(axis=0).argmax()]
    return worst


def _bounded(
    unit: LossUnit,
    lost_N: np.ndarray,
    unseen: float,
    groups_N: np.ndarray | None,
    agreement: float | None,
) -> Loss:
    """The loss with its bound, from the groups and one more that holds a changed row.

    The added observation follows Agresti & Coull (1998), "Approximate is better than 'exact' for
    interval estimation of binomial proportions"; that it is as large as the largest seen, Fay &
    Feuer (1997), "Confidence intervals for directly standardized rates: a method based on the gamma
    distribution". The standard error of the ratio of sums over groups is that of cluster samples:
    Cochran (1977), "Sampling Techniques".
    """
    _, index_N = np.unique(
        np.arange(len(lost_N)) if groups_N is None else groups_N, return_inverse=True
    )
    sizes_G = np.bincount(index_N).astype(np.float64)
    sums_G = np.bincount(index_N, weights=lost_N)
    worst = max(unseen, float(lost_N.max()))
    # As many rows as change together at a typical cost, or one at the largest that was seen.
    added = max(unseen * _weight(float((sizes_G**2).sum() / sizes_G.sum())), worst)
    weight = added / worst
    total = len(lost_N) + weight
    centre = (float(sums_G.sum()) + added) / total
    squares = float(((sums_G - sizes_G * centre) ** 2).sum()) + (added - weight * centre) ** 2
    clusters = len(sizes_G)
    loss = Loss(
        unit=unit,
        value=round(100 * float(lost_N.mean()), 9),  # 5 of 100 rows are 5 points, exactly
        bound=0.0,
        rows=len(lost_N),
        clusters=clusters,
        agreement=agreement,
        one_row=100 * unseen,
        centre=100 * centre,
        standard_error=100 * sqrt(squares * (clusters + 1) / clusters) / total,
    )
    return corrected(loss, 1)


def _weight(size: float) -> float:
    """How many rows of a group of `size` change together, in the mean (Kish's design effect)."""
    return 1 + (size - 1) * CORRELATION


@cache
def student_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's distribution, for a probability above one half.

    Abramowitz & Stegun (1964), 26.7.3, 26.7.4 and 26.7.5; SciPy is not installed everywhere.
    """
    z = NormalDist().inv_cdf(probability)
    if degrees > SERIES_UP_TO:
        return (
            z
            + (z**3 + z) / (4 * degrees)
            + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
            + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
        )
    return _solve(lambda t: _student_cdf(t, degrees) - probability)


def _student_cdf(t: float, degrees: int) -> float:
    angle = atan(t / sqrt(degrees))
    odd = degrees % 2
    term = cos(angle) if odd else 1.0
    total = term if degrees > 1 else 0.0
    for power in range(2 + odd, degrees - 1, 2):
        term *= cos(angle) ** 2 * (power - 1) / power
        total += term
    inside = 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total
    return 0.5 + inside / 2


def _solve(function: Callable[[float], float]) -> float:
    """The root of an increasing function that is negative at 0, by bisection."""
    low, high = 0.0, 1.0
    while function(high) < 0:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
    return high
