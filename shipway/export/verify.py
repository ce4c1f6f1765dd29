"""Compares a program's outputs with eager PyTorch in fp32, on held-out inputs.

N = evaluation rows, K = outputs of a row, B = bootstrap samples.
"""

from math import sqrt

import numpy as np

from shipway.artifact.certificate import Accuracy, Agreement, Share
from shipway.artifact.samples import relative_error, sqnr_db
from shipway.recipe import TensorSpec, Tolerance
from shipway.runtime.backends.base import Program
from shipway.runtime.batches import Arrays, batches

TOLERANCES = {
    "fp32": Tolerance(relative_error=1e-4, top1_agreement=0.99, cosine=0.9999),
    "fp16": Tolerance(relative_error=0.03, top1_agreement=0.95, cosine=0.99),
    "bf16": Tolerance(relative_error=0.10, top1_agreement=0.90, cosine=0.97),
    "int8": Tolerance(relative_error=0.25, top1_agreement=0.85, cosine=0.90),
}
"""By precision, for recipes that set none. fp32 programs differ only in the order of sums. fp16
keeps 11 bits of each number and bf16 8, and errors add up over some fifty layers. For int8, a
relative error of 0.25 is a signal 12 dB above its noise; correct int8 exports of our networks have
0.07 to 0.16."""

BATCHING_TOLERANCE = 1e-4
"""How much a row's outputs may change with the batch size, relative to the largest output."""
BATCHING_TOLERANCE_LOW = 0.02
"""The same for bf16 and fp16, whose kernels add in another order for other shapes."""
BATCHING_TOLERANCE_DYNAMIC = 0.10
"""The same for activations quantized by the range of the whole batch."""

Z_95 = 1.959964  # the standard normal distribution's 97.5% quantile
BOOTSTRAP_SAMPLES = 2000


def run_in_batches(
    program: Program, arrays: Arrays, inputs: tuple[TensorSpec, ...], size: int
) -> np.ndarray:
    """The program's first output for all rows, float32 (N, K), in batches of at most `size`."""
    return np.concatenate([program.run(batch)[0] for batch in batches(arrays, inputs, size)])


def compare(
    reference_NK: np.ndarray, candidate_NK: np.ndarray, batch_size: int, *, classes: bool
) -> Agreement:
    """The distance of a candidate's outputs (N, K) from eager's. `classes` if they are logits.

    Outputs with more axes are flattened to (N, K).
    """
    reference_NK = reference_NK.astype(np.float64).reshape(len(reference_NK), -1)
    candidate_NK = candidate_NK.astype(np.float64).reshape(len(candidate_NK), -1)
    difference_NK = np.abs(candidate_NK - reference_NK)
    relative = relative_error(reference_NK, candidate_NK)
    cosine_N = _cosines(reference_NK, candidate_NK)
    worst = int(np.argmin(np.nan_to_num(cosine_N, nan=-np.inf)))
    return Agreement(
        batch_size=batch_size,
        max_abs_diff=float(difference_NK.max()),
        mean_abs_diff=float(difference_NK.mean()),
        relative_error=relative,
        sqnr_db=sqnr_db(relative),
        cosine=float(cosine_N[worst]),
        worst_row=worst,
        top1_agreement=_same_top(reference_NK, candidate_NK, 1) if classes else None,
        top5_agreement=_same_top(reference_NK, candidate_NK, 5)
        if classes and reference_NK.shape[1] > 5
        else None,
        similarity_change=None if classes else _similarity_change(reference_NK, candidate_NK),
    )


def _cosines(a_NK: np.ndarray, b_NK: np.ndarray) -> np.ndarray:
    lengths_N = np.linalg.norm(a_NK, axis=1) * np.linalg.norm(b_NK, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines_N: np.ndarray = (a_NK * b_NK).sum(axis=1) / lengths_N
    return cosines_N


def _same_top(reference_NK: np.ndarray, candidate_NK: np.ndarray, k: int) -> float:
    tops = (np.sort(np.argsort(-each, axis=1)[:, :k]) for each in (reference_NK, candidate_NK))
    return float(np.mean((next(tops) == next(tops)).all(axis=1)))


def _similarity_change(reference_NK: np.ndarray, candidate_NK: np.ndarray) -> float:
    def similarities_NN(each_NK: np.ndarray) -> np.ndarray:
        unit_NK = each_NK / np.linalg.norm(each_NK, axis=1, keepdims=True)
        product_NN: np.ndarray = unit_NK @ unit_NK.T
        return product_NN

    return float(np.abs(similarities_NN(candidate_NK) - similarities_NN(reference_NK)).max())


def share(hits_N: np.ndarray) -> Share:
    """The proportion of true values, with Wilson's 95% interval.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    n, p = len(hits_N), float(np.mean(hits_N))
    centre = (p + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
    half = Z_95 * sqrt(p * (1 - p) / n + Z_95**2 / (4 * n * n)) / (1 + Z_95**2 / n)
    return Share(value=p, low=max(0.0, centre - half), high=min(1.0, centre + half), rows=n)


def accuracy(reference_NK: np.ndarray, candidate_NK: np.ndarray, targets_N: np.ndarray) -> Accuracy:
    """Both accuracies, and the change with a bootstrap interval over rows. Inputs (N, K), (N,)."""
    eager_N = reference_NK.argmax(1) == targets_N
    candidate_N = candidate_NK.argmax(1) == targets_N
    change_N = candidate_N.astype(float) - eager_N
    drawn_BN = np.random.default_rng(0).integers(
        0, len(change_N), (BOOTSTRAP_SAMPLES, len(change_N))
    )
    low, high = np.quantile(change_N[drawn_BN].mean(axis=1), (0.025, 0.975))
    return Accuracy(
        eager=share(eager_N),
        candidate=share(candidate_N),
        change=float(change_N.mean()),
        change_low=float(low),
        change_high=float(high),
    )


def why_off(agreements: tuple[Agreement, ...], tolerance: Tolerance) -> str | None:
    """The first value that is out of tolerance, in words, or None."""
    for each in agreements:
        at = f"at batch {each.batch_size}"
        if not np.isfinite(each.relative_error):
            return f"{at} its outputs are not finite numbers"
        if each.relative_error > tolerance.relative_error:
            return (
                f"{at} its outputs have a relative error of {each.relative_error:.2g}, "
                f"more than {tolerance.relative_error:.2g}"
            )
        if each.top1_agreement is not None and each.top1_agreement < tolerance.top1_agreement:
            return (
                f"{at} it agrees with eager on {each.top1_agreement:.1%} of inputs, "
                f"less than {tolerance.top1_agreement:.1%}"
            )
        if each.cosine < tolerance.cosine:
            return (
                f"{at} the outputs of evaluation row {each.worst_row} have a cosine of "
                f"{each.cosine:.3f} to eager's, less than {tolerance.cosine:.3f}"
            )
    return None


def why_mixed(max_abs_diff: float, limit: float) -> str | None:
    """The reason to refuse a program whose rows affect each other, or None."""
    if max_abs_diff <= limit:
        return None
    return (
        f"a row's outputs change by {max_abs_diff:.2g} with the batch size, more than {limit:.2g}"
    )
