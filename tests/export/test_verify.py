import re

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from shipway.artifact.certificate import Agreement, OutputMeasure
from shipway.artifact.measures import OutputKind
from shipway.artifact.samples import NO_NOISE_DB
from shipway.export.errors import BadInputs
from shipway.export.recipe_file import find_recipe
from shipway.export.verify import (
    TOLERANCES,
    accuracy,
    batching_change,
    check_reference,
    compare,
    measure_of,
    share,
    why_off,
    why_other_outputs,
)
from shipway.recipe import Scores, Tolerance
from tests.conftest import DATA

RNG = np.random.default_rng(0)
ROWS = 200


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(ROWS, 20))


def compared(
    reference: np.ndarray, candidate: np.ndarray, kind: OutputKind, scores: Scores = "logits"
) -> tuple[Agreement, OutputMeasure]:
    measure = measure_of("output", reference, kind, scores)
    return compare(reference, candidate, 1, measure), measure


def refusal(
    reference: np.ndarray,
    candidate: np.ndarray,
    kind: OutputKind,
    precision: str,
    scores: Scores = "logits",
) -> str | None:
    """What the shipped gate says."""
    if reason := why_other_outputs({"output": reference}, [candidate]):
        return reason
    agreement, measure = compared(reference, candidate, kind, scores)
    return why_off([agreement], [measure], TOLERANCES[precision])


def test_equal_outputs_agree_in_everything(logits):
    agreement, _ = compared(logits, logits, "scores")
    assert agreement.max_abs_diff == agreement.mean_abs_diff == agreement.relative_error == 0
    assert agreement.sqnr_db == NO_NOISE_DB
    assert agreement.cosine == pytest.approx(1)
    assert agreement.top1_agreement == agreement.top5_agreement == 1


def test_sqnr_is_the_ratio_of_the_spread_to_noise_in_decibels(logits):
    noise = np.random.default_rng(1).normal(size=logits.shape)
    noise *= np.linalg.norm(logits - logits.mean(axis=0)) / np.linalg.norm(noise) / 10
    shifted = logits + 1000  # an offset is no signal
    agreement, _ = compared(shifted, shifted + noise, "scores")
    assert agreement.sqnr_db == pytest.approx(20, abs=0.01)


def test_the_worst_row_is_the_one_that_is_furthest_off(logits):
    spoiled = logits.copy()
    spoiled[42] = -logits[42]
    agreement, _ = compared(logits, spoiled, "embedding")
    assert (agreement.worst_row, agreement.least_cosine_row) == (42, 42)
    assert agreement.cosine == pytest.approx(-1)


def test_top5_compares_sets_and_top1_the_first(logits):
    swapped = logits.copy()
    first, second = np.argsort(-logits, axis=1)[:, :2].T
    rows = np.arange(len(logits))
    swapped[rows, first], swapped[rows, second] = logits[rows, second], logits[rows, first]
    agreement, _ = compared(logits, swapped, "scores")
    assert agreement.top1_agreement == 0
    assert agreement.top5_agreement == 1


def test_the_similarity_change_is_that_of_the_pair_that_moved_most(logits):
    moved = logits + np.random.default_rng(1).normal(size=logits.shape) * 0.1
    expected = np.abs(cosine_similarity(logits) - cosine_similarity(moved)).max()
    agreement, _ = compared(logits, moved, "embedding")
    assert agreement.similarity_change == pytest.approx(expected)


@pytest.mark.parametrize(
    ("hits", "rows", "low", "high"),
    # From R: prop.test(hits, rows, correct = FALSE)$conf.int
    [(90, 100, 0.8256343, 0.9447708), (0, 10, 0.0, 0.2775328), (360, 360, 0.9894419, 1.0)],
)
def test_the_interval_is_wilsons(hits, rows, low, high):
    found = share(np.arange(rows) < hits)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))


def test_accuracy_counts_true_classes_and_its_change_is_paired(logits):
    targets = logits.argmax(1)
    spoiled = logits.copy()
    spoiled[:10] = -spoiled[:10]
    found = accuracy(logits, spoiled, targets)
    assert found.eager.value == 1
    assert found.candidate.value == pytest.approx(0.95)
    assert found.change == pytest.approx(-0.05)
    assert found.change_low <= found.change <= found.change_high < 0


def test_a_change_that_is_none_has_an_interval_of_nothing(logits):
    found = accuracy(logits, logits * 2, logits.argmax(1))
    assert (found.change_low, found.change, found.change_high) == (0, 0, 0)


def unit(rows_NK: np.ndarray) -> np.ndarray:
    return rows_NK / np.linalg.norm(rows_NK, axis=1, keepdims=True)


def softmax(logits_NK: np.ndarray) -> np.ndarray:
    weights_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
    return weights_NK / weights_NK.sum(axis=1, keepdims=True)


def float32(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float32)


RELU = float32(np.maximum(RNG.normal(size=(ROWS, 8)), 0))
RELU[::5] = 0
MASKS = RNG.random((ROWS, 6, 6)) < 0.1
MASKS[::2] = False
KINDS: dict[str, tuple[np.ndarray, OutputKind, Scores]] = {
    # outputs of eager, kind, scores
    "class scores": (float32(RNG.normal(size=(ROWS, 10)) * 3), "scores", "logits"),
    "scores with an offset": (float32(RNG.normal(size=(ROWS, 10)) + 50), "scores", "logits"),
    "probabilities": (float32(softmax(RNG.normal(size=(ROWS, 4)) * 2)), "scores", "probabilities"),
    "one logit": (float32(RNG.normal(size=(ROWS, 1)) * 2), "scores", "binary"),
    "labels that are independent": (float32(RNG.normal(size=(ROWS, 5))), "scores", "multi_label"),
    "embeddings": (float32(unit(RNG.normal(size=(ROWS, 32)))), "embedding", "logits"),
    "a regression with an offset": (float32(RNG.normal(size=(ROWS, 1)) + 20), "values", "logits"),
    "a regression near zero": (float32(RNG.normal(size=(ROWS,)) * 1e-6), "values", "logits"),
    "columns of different units": (
        float32(RNG.normal(size=(ROWS, 3)) * [1e-4, 1, 1e4] + [0, 20, -3e4]),
        "values",
        "logits",
    ),
    "a head of relu with rows of zeros": (RELU, "values", "logits"),
    "long rows": (float32(RNG.normal(size=(ROWS, 8, 9, 2))), "values", "logits"),
    "integers": (RNG.integers(0, 7, size=(ROWS,)), "values", "logits"),
    "masks that are mostly background": (MASKS, "values", "logits"),
}


def shuffled(outputs: np.ndarray) -> np.ndarray:
    return np.roll(outputs, 1, axis=0)


def constant(outputs: np.ndarray) -> np.ndarray:
    """The best constant answer."""
    if outputs.dtype.kind in "bi":
        values, counts = np.unique(outputs, return_counts=True)
        return np.full_like(outputs, values[counts.argmax()])
    return np.broadcast_to(outputs.mean(axis=0), outputs.shape).astype(outputs.dtype)


def flipped(outputs: np.ndarray) -> np.ndarray:
    return ~outputs if outputs.dtype.kind == "b" else -outputs


def off_by_one_class(outputs: np.ndarray) -> np.ndarray:
    if outputs.dtype.kind == "i":
        return outputs + 1
    return np.roll(outputs, 1, axis=-1)


def with_nan(outputs: np.ndarray) -> np.ndarray:
    spoiled = outputs.copy()
    spoiled[7] = np.nan
    return spoiled


def overflown(outputs: np.ndarray) -> np.ndarray:
    """One row beyond what half precision holds."""
    spoiled = outputs.copy()
    spoiled[7] = np.inf
    return spoiled


def without_a_column(outputs: np.ndarray) -> np.ndarray:
    return outputs[:, :-1]


def one_row_wrong(outputs: np.ndarray) -> np.ndarray:
    spoiled = outputs.copy()
    spoiled[8] = outputs[9]
    return spoiled


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_wrong_answers_fail_whatever_the_outputs_mean(kind, precision):
    outputs, declared, scores = KINDS[kind]
    wrong = [shuffled, constant, flipped]
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        wrong += [off_by_one_class, without_a_column]
    if outputs.dtype.kind == "i":
        wrong += [off_by_one_class]
    if outputs.dtype.kind == "f":
        wrong += [with_nan, overflown]
    passed = [
        spoil.__name__
        for spoil in wrong
        if refusal(outputs, spoil(outputs), declared, precision, scores) is None
    ]
    assert passed == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_wrong_row_is_too_much_for_an_fp32_program(kind):
    outputs, declared, scores = KINDS[kind]
    if outputs.dtype.kind == "f":  # of labels, one in a hundred may be decided the other way
        assert refusal(outputs, one_row_wrong(outputs), declared, "fp32", scores)


@pytest.mark.parametrize(("precision", "noise"), [("fp32", 1e-5), ("bf16", 0.01), ("int8", 0.05)])
@pytest.mark.parametrize("kind", KINDS)
def test_exact_and_slightly_perturbed_answers_pass(kind, precision, noise):
    outputs, declared, scores = KINDS[kind]
    assert refusal(outputs, outputs.copy(), declared, precision, scores) is None
    if outputs.dtype.kind == "f":
        spread = outputs.std(axis=0) if declared == "values" else outputs.std()
        moved = outputs + np.random.default_rng(1).normal(size=outputs.shape) * spread * noise
        assert refusal(outputs, float32(moved), declared, precision, scores) is None


def test_the_last_bits_of_large_numbers_are_no_error():
    outputs = float32(RNG.normal(size=(ROWS, 1)) + 1e6)
    assert refusal(outputs, np.nextafter(outputs, np.float32(np.inf)), "values", "fp32") is None
    assert refusal(outputs, float32(np.full_like(outputs, 1e6)), "values", "int8") is not None


def test_a_column_that_eager_keeps_constant_may_not_be_far_off():
    outputs = float32(RNG.normal(size=(ROWS, 2)))
    outputs[:, 1] = 5
    spoiled = outputs.copy()
    spoiled[:, 1] = 7
    assert refusal(outputs, outputs, "values", "int8") is None
    assert refusal(outputs, spoiled, "values", "int8") is not None


def test_a_row_that_points_elsewhere_is_refused_by_its_number():
    reference = np.random.default_rng(0).normal(size=(400, 10))
    spoiled = reference.copy()
    spoiled[123, :9] = 0
    agreement, measure = compared(reference, spoiled, "embedding")
    for tolerance in (
        Tolerance(relative_error=1, cosine=0.9),
        Tolerance(relative_error=0.1),
    ):
        assert "evaluation row 123" in why_off([agreement], [measure], tolerance)


def test_a_program_that_ranks_otherwise_is_refused_however_close_it_is():
    reference = np.zeros((10, 3)) + [1.0, 0.999, 0.0] + np.arange(10)[:, None]
    swapped = np.zeros((10, 3)) + [0.999, 1.0, 0.0] + np.arange(10)[:, None]
    agreement, measure = compared(reference, swapped, "scores")
    tolerance = Tolerance(relative_error=0.01, top1_agreement=0.99)
    assert "agrees with eager on 0.0%" in why_off([agreement], [measure], tolerance)


def test_a_tie_of_eager_is_no_disagreement():
    reference = float32(RNG.normal(size=(ROWS, 10)))
    reference[::2] = 0
    moved = reference + float32(RNG.normal(size=(ROWS, 10)) * 1e-6)
    assert refusal(reference, moved, "scores", "fp32") is None


def test_the_output_that_is_off_is_named_if_there_are_several():
    good, bad = (
        measure_of(name, KINDS["integers"][0], "values", "logits") for name in ("good", "bad")
    )
    integers = KINDS["integers"][0]
    agreements = [compare(integers, integers, 1, good), compare(integers, integers + 1, 1, bad)]
    reason = why_off(agreements, [good, bad], TOLERANCES["fp32"])
    assert reason.startswith("at batch 1 its output bad has a relative error of")


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        ([np.zeros(3, np.int32)], "int32, and eager's is int64"),
        ([np.zeros((3, 1), np.int64)], r"shape \(3, 1\), and eager's has \(3,\)"),
        ([np.zeros(3, np.int64)] * 2, "2 outputs, and eager 1"),
    ],
)
def test_other_types_shapes_and_numbers_of_outputs_are_refused(outputs, reason):
    found = why_other_outputs({"labels": np.zeros(3, np.int64)}, outputs)
    assert found is not None and re.search(reason, found)


def test_rows_that_depend_on_their_batch_are_refused(logits):
    measures = [measure_of("logits", logits, "scores", "logits")]
    moved = logits.copy()
    moved[0, 0] += 0.5
    references = {"logits": logits}
    assert batching_change(references, [[logits], [logits]], measures, 1e-4) == (0, None)
    most, reason = batching_change(references, [[logits], [moved]], measures, 1e-4)
    assert most == pytest.approx(0.5)
    assert "change by 0.5 with the batch" in reason


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        ({"a": np.array([[1.0], [np.nan]])}, "a is NaN or infinite for evaluation row 1"),
        ({"a": np.array([[1.0], [-np.inf]])}, "a is NaN or infinite for evaluation row 1"),
        ({"a": np.zeros((2, 1)), "b": np.zeros((3, 1))}, "different numbers of rows"),
        ({"a": np.ones((4, 2))}, "Every evaluation row has the same outputs"),
    ],
)
def test_outputs_of_eager_that_prove_nothing_are_refused(outputs, reason):
    recipe, _ = find_recipe(str(DATA / "tiny_tensors_recipe.py"))
    with pytest.raises(BadInputs, match=reason):
        check_reference(outputs, recipe)
