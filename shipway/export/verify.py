"""Compares a program's outputs with eager PyTorch in fp32, on held-out inputs.

N = evaluation rows, K = outputs of a row, B = bootstrap samples.
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import NormalDist

import numpy as np

from shipway.artifact.certificate import Accuracy, Agreement, OutputMeasure, Share
from shipway.artifact.measures import (
    ROW_FACTOR,
    OutputKind,
    allowed_change,
    cosines,
    errors_of,
    kind_of,
    spread_of,
)
from shipway.artifact.samples import allowed_error, sqnr_db
from shipway.export.errors import BadInputs
from shipway.export.intervals import CONFIDENCE
from shipway.recipe import Recipe, Scores, TensorSpec, Tolerance
from shipway.runtime.backends.base import Program
from shipway.runtime.batches import Arrays, batches, is_text
from shipway.tasks import TASKS

TOLERANCES = {
    "fp32": Tolerance(relative_error=1e-4, top1_agreement=0.99, cosine=0.9999),
    "fp16": Tolerance(relative_error=0.03, top1_agreement=0.95, cosine=0.99),
    "bf16": Tolerance(relative_error=0.10, top1_agreement=0.90, cosine=0.97),
    "int8": Tolerance(relative_error=0.30, top1_agreement=0.75, cosine=0.90),
}
"""By precision, for recipes that set none. fp32 programs differ only in the order of sums. fp16
keeps 11 bits of each number and bf16 8, and errors add up over some fifty layers. For int8, a
relative error of 0.30 is a signal 10 dB above its noise; correct int8 exports of our networks have
0.07 to 0.22. The agreement of classes is a bound for programs that are wrong: on crops of which
eager itself is unsure, correct int8 programs agree in 87%, and the accuracy budget counts what that
costs."""

BATCHING_TOLERANCE = 1e-4
"""How much a row's outputs may change with the batch size, relative to the largest distance of
eager's outputs from their mean."""
BATCHING_TOLERANCE_LOW = 0.02
"""The same for bf16 and fp16, whose kernels add in another order for other shapes."""
BATCHING_TOLERANCE_DYNAMIC = 0.10
"""The same for activations quantized by the range of the whole batch."""


def batching_share(precision: str, *, dynamic: bool) -> float:
    """The tolerance of a row's change with the batch size. `dynamic` if activations are quantized
    by the range of the whole batch."""
    if dynamic:
        return BATCHING_TOLERANCE_DYNAMIC
    return BATCHING_TOLERANCE_LOW if precision in ("bf16", "fp16") else BATCHING_TOLERANCE


TAIL = (1 - CONFIDENCE) / 2
"""The probability beyond each end of a confidence interval."""
Z = NormalDist().inv_cdf(1 - TAIL)
"""The quantile of the standard normal distribution at the upper end."""
BOOTSTRAP_SAMPLES = 2000


def run_in_batches(
    program: Program, arrays: Arrays, inputs: tuple[TensorSpec, ...], size: int
) -> tuple[np.ndarray, ...]:
    """The program's outputs for all rows, each (N, …), in batches of at most `size`."""
    runs = [run_batch(program, batch, arrays, inputs) for batch in batches(arrays, inputs, size)]
    return tuple(np.concatenate(parts) for parts in zip(*runs, strict=True))


def run_batch(
    program: Program, batch: Arrays, arrays: Arrays, inputs: tuple[TensorSpec, ...]
) -> Sequence[np.ndarray]:
    """The program's outputs for a batch of `arrays`, whose texts are cut to the longest of the
    batch. Outputs for each token are as long as if they were not, and 0 where a text has none."""
    outputs = program.run(batch)
    if not is_text(inputs) or not any(each.shape[:2] == batch[1].shape for each in outputs):
        return outputs
    # The length of a vector may be that of the texts by chance: two tokens tell.
    cut = program.run(tuple(np.ascontiguousarray(array[:1, :2]) for array in batch))
    return [
        _of_tokens(whole, batch[1], arrays[1].shape[1])
        if whole.shape[:2] == batch[1].shape and two.shape[1] == 2
        else whole
        for whole, two in zip(outputs, cut, strict=True)
    ]


def _of_tokens(output_BT: np.ndarray, mask_BT: np.ndarray, length: int) -> np.ndarray:
    """An output (B, T, …) for all `length` tokens, with zeros where the mask has them."""
    whole = np.zeros((len(output_BT), length, *output_BT.shape[2:]), output_BT.dtype)
    whole[:, : output_BT.shape[1]] = np.where(
        mask_BT.reshape(*mask_BT.shape, *(1,) * (output_BT.ndim - 2)) == 1, output_BT, 0
    )
    return whole


def measure_of(name: str, reference: np.ndarray, kind: OutputKind, scores: Scores) -> OutputMeasure:
    """How the output `name` is compared, from eager's outputs for all evaluation rows, (N, …)."""
    kind = kind_of(reference, kind)
    return OutputMeasure(
        name=name,
        kind=kind,
        scores=scores if kind == "scores" else None,
        spread=spread_of(reference, kind),
    )


def compare(
    reference: np.ndarray, candidate: np.ndarray, batch_size: int, measure: OutputMeasure
) -> Agreement:
    """The distance of one output of a candidate from eager's, both (N, …)."""
    error, error_N = errors_of(reference, candidate, measure.kind, measure.spread)
    worst = int(np.argmax(np.nan_to_num(error_N, nan=np.inf)))
    same_shape = candidate.shape == reference.shape
    difference = _differences(reference, candidate) if same_shape else np.array([np.nan])
    agreement = Agreement(
        output=measure.name,
        batch_size=batch_size,
        max_abs_diff=float(difference.max()),
        mean_abs_diff=float(difference.mean()),
        relative_error=error,
        sqnr_db=sqnr_db(error),
        row_error=float(error_N[worst]),
        worst_row=worst,
    )
    if not same_shape or measure.kind == "values":
        return agreement
    if measure.kind == "labels":
        return agreement.model_copy(update={"top1_agreement": 1 - float(difference.mean())})
    reference_NK = reference.astype(np.float64).reshape(len(reference), -1)
    candidate_NK = candidate.astype(np.float64).reshape(len(candidate), -1)
    return agreement.model_copy(update=_by_row(reference_NK, candidate_NK, measure))


def _by_row(
    reference_NK: np.ndarray, candidate_NK: np.ndarray, measure: OutputMeasure
) -> dict[str, object]:
    """What is compared where a row is a vector: scores of classes, or an embedding."""
    compared: dict[str, object] = {}
    numbers = reference_NK.shape[1]
    if numbers > 1:
        cosine_N = cosines(reference_NK, candidate_NK)
        worst = int(np.argmin(np.nan_to_num(cosine_N, nan=-np.inf)))
        compared |= {"cosine": float(cosine_N[worst]), "least_cosine_row": worst}
    if measure.kind == "embedding":
        return compared | {"similarity_change": _similarity_change(reference_NK, candidate_NK)}
    if measure.scores in ("binary", "multi_label"):
        same_NK = (reference_NK > 0) == (candidate_NK > 0)
        return compared | {"top1_agreement": float(same_NK.mean())}
    if numbers > 1:
        compared["top1_agreement"] = float(_same_class(reference_NK, candidate_NK).mean())
    if numbers > 5:
        compared["top5_agreement"] = float(_same_five(reference_NK, candidate_NK).mean())
    return compared


def _differences(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    if not np.issubdtype(reference.dtype, np.floating):
        return (reference != candidate).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        difference: np.ndarray = np.abs(candidate.astype(np.float64) - reference.astype(np.float64))
    return difference


def _same_class(reference_NK: np.ndarray, candidate_NK: np.ndarray) -> np.ndarray:
    """Whether the candidate's first class is one that eager puts first too, (N,)."""
    # Where eager scores two classes alike, as in a row of zeros, either is right.
    chosen_N1 = candidate_NK.argmax(axis=1)[:, None]
    scores_N = np.take_along_axis(reference_NK, chosen_N1, axis=1)[:, 0]
    same_N: np.ndarray = scores_N >= reference_NK.max(axis=1)
    return same_N & np.isfinite(candidate_NK).any(axis=1)


def _same_five(reference_NK: np.ndarray, candidate_NK: np.ndarray) -> np.ndarray:
    """Whether eager scores the candidate's first five classes as high as its own, (N,)."""
    chosen_N5 = np.argsort(-candidate_NK, axis=1)[:, :5]
    scores_N5 = np.take_along_axis(reference_NK, chosen_N5, axis=1)
    same_N: np.ndarray = scores_N5.min(axis=1) >= -np.sort(-reference_NK, axis=1)[:, 4]
    return same_N


def _similarity_change(reference_NK: np.ndarray, candidate_NK: np.ndarray) -> float:
    def similarities_NN(vectors_NK: np.ndarray) -> np.ndarray:
        length_N1 = np.linalg.norm(vectors_NK, axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            unit_NK = vectors_NK / np.where(length_N1 > 0, length_N1, 1.0)
        product_NN: np.ndarray = unit_NK @ unit_NK.T
        return product_NN

    with np.errstate(invalid="ignore"):
        change_NN = np.abs(similarities_NN(candidate_NK) - similarities_NN(reference_NK))
    return float(change_NN.max())


def share(hits_N: np.ndarray) -> Share:
    """The proportion of true values, with Wilson's confidence interval.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    n, p = len(hits_N), float(np.mean(hits_N))
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * sqrt(p * (1 - p) / n + Z**2 / (4 * n * n)) / (1 + Z**2 / n)
    return Share(value=p, low=max(0.0, centre - half), high=min(1.0, centre + half), rows=n)


def accuracy(reference_NK: np.ndarray, candidate_NK: np.ndarray, targets_N: np.ndarray) -> Accuracy:
    """Both accuracies, and the change with a bootstrap interval over rows. Inputs (N, K), (N,)."""
    eager_N = reference_NK.argmax(1) == targets_N
    candidate_N = candidate_NK.argmax(1) == targets_N
    change_N = candidate_N.astype(float) - eager_N
    drawn_BN = np.random.default_rng(0).integers(
        0, len(change_N), (BOOTSTRAP_SAMPLES, len(change_N))
    )
    low, high = np.quantile(change_N[drawn_BN].mean(axis=1), (TAIL, 1 - TAIL))
    return Accuracy(
        eager=share(eager_N),
        candidate=share(candidate_N),
        change=float(change_N.mean()),
        change_low=float(low),
        change_high=float(high),
    )


def why_off(
    agreements: Sequence[Agreement], measures: Sequence[OutputMeasure], tolerance: Tolerance
) -> str | None:
    """The first value that is out of tolerance, in words, or None."""
    by_name = {measure.name: measure for measure in measures}
    for agreement in agreements:
        at = f"at batch {agreement.batch_size}"
        several = len(by_name) > 1
        has = f"its output {agreement.output} has" if several else "its outputs have"
        of = f"of {agreement.output} " if several else ""
        if reason := _why_wrong(agreement, by_name[agreement.output], tolerance, has, of):
            return f"{at} {reason}"
    return None


def _why_wrong(
    agreement: Agreement, measure: OutputMeasure, tolerance: Tolerance, has: str, of: str
) -> str | None:
    """Every comparison is written so that NaN fails it."""
    if not np.isfinite(agreement.relative_error):
        return f"{has} numbers that are not finite, where eager's are finite"
    if not agreement.relative_error <= allowed_error(measure, tolerance):
        return (
            f"{has} a relative error of {agreement.relative_error:.2g}, "
            f"more than {allowed_error(measure, tolerance):.2g}"
        )
    top1 = agreement.top1_agreement
    if top1 is not None and not top1 >= tolerance.top1_agreement:
        return (
            f"it agrees with eager on {top1:.1%} of inputs{_for(of)}, "
            f"less than {tolerance.top1_agreement:.1%}"
        )
    limit = ROW_FACTOR * tolerance.relative_error
    if measure.kind != "labels" and not agreement.row_error <= limit:
        return (
            f"the outputs {of}for evaluation row {agreement.worst_row} have a relative error of "
            f"{agreement.row_error:.2g}, more than a row's {limit:.2g}"
        )
    if measure.kind == "embedding" and not (agreement.cosine or 0.0) >= tolerance.cosine:
        return (
            f"the outputs {of}for evaluation row {agreement.least_cosine_row} have a cosine of "
            f"{agreement.cosine:.3f} to eager's, less than {tolerance.cosine:.3f}"
        )
    return None


def _for(of: str) -> str:
    return f" ({of.removeprefix('of ').strip()})" if of else ""


def why_other_outputs(
    references: Mapping[str, np.ndarray], outputs: Sequence[np.ndarray]
) -> str | None:
    """How the number, types or shapes of outputs differ from eager's, or None."""
    if len(outputs) != len(references):
        return f"it has {len(outputs)} outputs, and eager {len(references)}"
    for (name, reference), output in zip(references.items(), outputs, strict=True):
        if output.dtype != reference.dtype:
            return f"its output {name} is {output.dtype}, and eager's is {reference.dtype}"
        if output.shape != reference.shape:
            return (
                f"its output {name} for {len(reference)} rows has shape {output.shape}, and "
                f"eager's has {reference.shape}"
            )
    return None


def batching_change(
    references: Mapping[str, np.ndarray],
    outputs: Sequence[Sequence[np.ndarray]],
    measures: Sequence[OutputMeasure],
    share: float,
) -> tuple[float, str | None]:
    """The most that a number changed with the batch size, and why that is too much, or None.

    `outputs` are those for each batch size, the smallest first. `share` is how much of the largest
    distance of eager's outputs from their mean is allowed. Integers and booleans may not change.
    """
    most, reason = 0.0, None
    for index, (reference, measure) in enumerate(zip(references.values(), measures, strict=True)):
        first = outputs[0][index]
        change = max(float(_differences(first, each[index]).max()) for each in outputs)
        most = max(most, change)
        limit = 0.0 if measure.kind == "labels" else allowed_change(reference, share)
        reason = reason or why_mixed(change, limit)
    return most, reason


def measures_of(references: Mapping[str, np.ndarray], recipe: Recipe) -> tuple[OutputMeasure, ...]:
    """How each output is compared, from eager's outputs by name, each (N, …)."""
    kind = TASKS.get(recipe.task).output_kind()
    return tuple(
        measure_of(name, reference, kind, recipe.scores) for name, reference in references.items()
    )


def check_reference(references: Mapping[str, np.ndarray], recipe: Recipe) -> None:
    """Raises BadInputs if eager's outputs cannot be served, or tell nothing about a program."""
    rows = {len(reference) for reference in references.values()}
    for name, reference in references.items():
        if not np.isfinite(reference).all():
            row = int(np.argwhere(~np.isfinite(reference))[0][0])
            raise BadInputs(
                f"The module's output {name} is NaN or infinite for evaluation row {row}, which no "
                "answer may contain. Check the weights and the preprocessing of that row; mask "
                "scores with a finite number such as -1e4."
            )
    if len(rows) != 1:
        raise BadInputs(
            "The module's outputs have different numbers of rows: "
            + ", ".join(f"{name} {len(each)}" for name, each in references.items())
            + ". The first axis of each output must be the batch."
        )
    if all(max(measure.spread) == 0 for measure in measures_of(references, recipe)):
        raise BadInputs(
            "Every evaluation row has the same outputs, so a program that always answers this "
            "could not be distinguished from the model. Give more varied evaluation inputs, or "
            "check the weights."
        )


def why_mixed(max_abs_diff: float, limit: float) -> str | None:
    """The reason to refuse a program whose rows affect each other, or None."""
    if max_abs_diff <= limit:
        return None
    return (
        f"a row's outputs change by {max_abs_diff:.2g} with the batch size, more than {limit:.2g}"
    )
