import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from shipway.artifact.samples import NO_NOISE_DB
from shipway.export.verify import accuracy, compare, share, why_mixed, why_off
from shipway.recipe import Tolerance


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(200, 20))


def test_equal_outputs_agree_in_everything(logits):
    found = compare(logits, logits, 1, classes=True)
    assert found.max_abs_diff == found.mean_abs_diff == found.relative_error == 0
    assert found.sqnr_db == NO_NOISE_DB
    assert found.cosine == pytest.approx(1)
    assert found.top1_agreement == found.top5_agreement == 1


def test_sqnr_is_the_ratio_of_signal_to_noise_in_decibels(logits):
    noise = np.random.default_rng(1).normal(size=logits.shape)
    noise *= np.linalg.norm(logits) / np.linalg.norm(noise) / 10
    assert compare(logits, logits + noise, 1, classes=True).sqnr_db == pytest.approx(20)


def test_the_worst_row_is_the_one_that_points_furthest_away(logits):
    spoiled = logits.copy()
    spoiled[42] = -logits[42]
    found = compare(logits, spoiled, 1, classes=False)
    assert (found.worst_row, found.cosine) == (42, pytest.approx(-1))


def test_top5_compares_sets_and_top1_the_first(logits):
    swapped = logits.copy()
    first, second = np.argsort(-logits, axis=1)[:, :2].T
    rows = np.arange(len(logits))
    swapped[rows, first], swapped[rows, second] = logits[rows, second], logits[rows, first]
    found = compare(logits, swapped, 1, classes=True)
    assert found.top1_agreement == 0
    assert found.top5_agreement == 1


def test_the_similarity_change_is_that_of_the_pair_that_moved_most(logits):
    moved = logits + np.random.default_rng(1).normal(size=logits.shape) * 0.1
    expected = np.abs(cosine_similarity(logits) - cosine_similarity(moved)).max()
    found = compare(logits, moved, 1, classes=False)
    assert found.similarity_change == pytest.approx(expected)


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


TOLERANCE = Tolerance(relative_error=0.01, top1_agreement=0.99)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda outputs: outputs, None),
        (lambda outputs: outputs * np.nan, "not finite"),
        (lambda outputs: outputs * 1.5, "a relative error of 0.5"),
        (lambda outputs: -outputs, "a relative error of 2"),
    ],
)
def test_the_verdict_names_what_is_out_of_tolerance(spoil, reason):
    reference = np.random.default_rng(0).normal(size=(50, 10))
    agreement = compare(reference, spoil(reference), 1, classes=True)
    found = why_off((agreement,), TOLERANCE)
    assert found is None if reason is None else reason in found


def test_one_row_that_points_elsewhere_is_refused_by_its_number():
    reference = np.random.default_rng(0).normal(size=(400, 10))
    spoiled = reference.copy()
    spoiled[123, :9] = 0
    agreement = compare(reference, spoiled, 1, classes=False)
    tolerance = Tolerance(relative_error=0.1, cosine=0.9)
    assert "evaluation row 123" in why_off((agreement,), tolerance)


def test_a_program_that_ranks_otherwise_is_refused_however_close_it_is():
    reference = np.zeros((10, 3)) + [1.0, 0.999, 0.0]
    swapped = np.zeros((10, 3)) + [0.999, 1.0, 0.0]
    found = why_off((compare(reference, swapped, 1, classes=True),), TOLERANCE)
    assert "agrees with eager on 0.0%" in found


def test_rows_that_depend_on_their_batch_are_refused():
    assert why_mixed(1e-5, 1e-4) is None
    assert "change by 0.5 with the batch" in why_mixed(0.5, 1e-4)
