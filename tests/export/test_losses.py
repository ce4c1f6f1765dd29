"""Losses in points and their bounds: what they count, what they promise, what they ask for."""

import numpy as np
import pytest
from scipy.stats import beta, t

from shipway.artifact.measures import OutputKind
from shipway.export.losses import (
    bound_if_unchanged,
    corrected,
    largest_loss,
    loss_of,
    rows_needed,
    student_quantile,
)
from shipway.export.verify import measure_of
from shipway.tasks.classes import probabilities_of

KINDS: dict[str, OutputKind] = {"logits": "scores", "embedding": "embedding"}
PHOTOS, CROPS = 30, 18
GROUPS = np.repeat(np.arange(PHOTOS), CROPS)


def logits(rows: int = 540, classes: int = 10, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (3 * random.normal(size=(rows, classes))).astype(np.float32)


def test_with_true_classes_a_point_is_one_answer_of_a_hundred_that_was_right_in_eager():
    eager = np.eye(4, dtype=np.float32)[np.zeros(100, int)]
    candidate = eager.copy()
    candidate[:5] = [0, 1, 0, 0]
    targets = np.zeros(100, np.int64)
    loss = loss_of(eager, candidate, kind="scores", targets_N=targets)
    assert (loss.unit, loss.value, loss.agreement, loss.rows) == ("accuracy", 5.0, 0.95, 100)
    targets[:3] = 1  # three of the five were wrong in eager and are right now
    assert loss_of(eager, candidate, kind="scores", targets_N=targets).value == 2 - 3


def test_a_flip_costs_what_eager_believed_in_its_own_class_over_the_other():
    eager = np.log(np.array([[0.51, 0.49, 0.0001], [0.9, 0.08, 0.02]], np.float32))
    flipped = eager[:, [1, 0, 2]]
    undecided = loss_of(eager, np.stack([flipped[0], eager[1]]), kind="scores")
    decided = loss_of(eager, np.stack([eager[0], flipped[1]]), kind="scores")
    assert undecided.unit == "belief" and undecided.agreement == decided.agreement == 0.5
    assert undecided.value == pytest.approx(100 * (0.51 - 0.49) / 2, rel=1e-3)
    assert decided.value == pytest.approx(100 * (0.90 - 0.08) / 2, rel=1e-3)


def test_scores_may_be_probabilities_one_logit_or_independent_labels():
    eager = logits(200)
    candidate = eager + 0.5 * logits(200, seed=1)
    of_logits = loss_of(eager, candidate, kind="scores")
    softmax, other = (probabilities_of(each, "logits") for each in (eager, candidate))
    of_probabilities = loss_of(softmax, other, kind="scores", scores="probabilities")
    assert of_probabilities.value == pytest.approx(of_logits.value)
    one = np.array([[2.0], [-2.0], [0.1]], np.float32)
    flipped = one * [[1], [1], [-1]]
    loss = loss_of(one, flipped, kind="scores", scores="binary")
    assert loss.value == pytest.approx(100 * np.tanh(0.05) / 3)
    assert loss.agreement == pytest.approx(2 / 3)
    targets = np.array([1, 0, 1])
    loss = loss_of(one, flipped, kind="scores", scores="binary", targets_N=targets)
    assert (loss.unit, round(loss.value, 6)) == ("accuracy", 33.333333)
    labels = np.repeat(one, 4, axis=1)
    half = labels.copy()
    half[2, :2] *= -1
    loss = loss_of(labels, half, kind="scores", scores="multi_label")
    assert loss.value == pytest.approx(100 * np.tanh(0.05) / 6)


@pytest.mark.parametrize("kind", ["scores", "embedding", "values"])
def test_a_constant_answer_loses_far_more_than_a_point(kind):
    eager = 20 + logits() if kind == "values" else logits()
    constant = np.broadcast_to(eager.mean(axis=0), eager.shape)
    assert loss_of(eager, constant, kind=kind).value > 30


@pytest.mark.parametrize("kind", ["scores", "embedding", "values", "labels"])
def test_equal_outputs_lose_nothing_and_their_bound_is_not_zero(kind):
    eager = (logits() > 0) if kind == "labels" else logits()
    loss = loss_of(eager, eager.copy(), kind=kind, groups_N=GROUPS)
    assert loss.value == 0 < loss.bound
    assert loss.bound == pytest.approx(bound_if_unchanged(loss))
    assert (loss.rows, loss.clusters) == (540, 30)


def test_rows_that_all_lose_alike_have_a_bound():
    eager = np.eye(4)[np.arange(100) % 4]
    loss = loss_of(eager, np.roll(eager, 1, axis=1), kind="scores")
    assert loss.bound >= loss.value > 30


def test_values_are_measured_by_their_own_spread_and_the_worst_column_counts():
    random = np.random.default_rng(0)
    eager = random.normal(size=(1000, 2)) * [1, 1000] + [20, 0]
    noise = random.normal(size=1000)
    near = eager + np.stack([0.1 * noise, np.zeros(1000)], axis=1)
    assert loss_of(eager, near, kind="values").value == pytest.approx(1, rel=0.1)
    always_20 = np.full_like(eager[:, :1], 20)
    assert loss_of(eager[:, :1], always_20, kind="values").value == pytest.approx(100, rel=0.1)


def test_outputs_that_are_not_numbers_have_no_loss_and_masked_ones_do():
    eager = logits(20)
    assert loss_of(eager, eager * np.nan, kind="scores") is None
    assert loss_of(eager, eager[:, :5], kind="scores") is None
    eager[:, 3] = -np.inf
    assert loss_of(eager, eager.copy(), kind="scores").value == 0


def test_of_several_outputs_the_one_that_loses_most_counts_and_targets_are_the_first_ones():
    eager = {"logits": logits(200), "embedding": logits(200, seed=2)}
    measures = [measure_of(name, eager[name], kind, "logits") for name, kind in KINDS.items()]
    targets = eager["logits"].argmax(axis=1)
    turned = (eager["logits"], -eager["embedding"])
    assert largest_loss(eager, turned, measures, targets).unit == "cosine"
    wrong = (-eager["logits"], eager["embedding"])
    assert largest_loss(eager, wrong, measures, targets).unit == "accuracy"
    unknown = (eager["logits"], eager["embedding"] * np.nan)
    assert largest_loss(eager, unknown, measures, targets) is None


def test_rows_of_one_photo_that_change_together_widen_the_bound():
    eager = logits(1000, 3)
    candidate = eager.copy()
    candidate[:40] = candidate[:40, [1, 2, 0]]
    alone = loss_of(eager, candidate, kind="scores")
    together = loss_of(eager, candidate, kind="scores", groups_N=np.arange(1000) // 20)
    assert together.value == alone.value
    assert together.bound - together.value > 2 * (alone.bound - alone.value)


def test_more_compared_candidates_widen_the_bound_and_it_never_narrows_again():
    loss = loss_of(logits(), logits() + 0.3 * logits(seed=1), kind="scores", groups_N=GROUPS)
    six = corrected(loss, 6)
    assert six.bound > loss.bound and six.value == loss.value
    assert corrected(six, 2) == six


def test_the_rows_needed_are_the_fewest_with_which_an_unchanged_program_keeps_the_budget():
    eager = np.eye(4, dtype=np.float32)[np.arange(100) % 4]
    loss = corrected(loss_of(eager, eager, kind="scores", targets_N=np.arange(100) % 4), compared=5)
    rows, clusters = rows_needed(loss, 1.0)
    assert rows == clusters and bound_if_unchanged(loss, rows) <= 1 < bound_if_unchanged(
        loss, rows - 1
    )
    assert rows == pytest.approx(460, rel=0.02)  # 1 - 0.01 ** (1 / 460) is a point
    assert rows_needed(loss, 0.0) is None


def exact_upper(probability: float, successes: int, rows: int) -> float:
    """Clopper & Pearson's bound, from the binomial distribution alone."""
    return float(beta.ppf(probability, successes + 1, rows - successes))


@pytest.mark.parametrize("compared", [1, 6])
@pytest.mark.parametrize("changed", [0, 1, 3, 10, 30])
def test_without_groups_the_bound_is_near_the_exact_one(changed, compared):
    eager = np.eye(2, dtype=np.float32)[np.zeros(1000, int)]
    candidate = eager.copy()
    candidate[:changed] = [0, 1]
    loss = loss_of(eager, candidate, kind="scores", targets_N=np.zeros(1000, int))
    exact = 100 * exact_upper(1 - 0.05 / compared, changed, 1000)
    assert corrected(loss, compared).bound == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("degrees", [1, 2, 3, 8, 29, 30, 200, 201, 5000])
@pytest.mark.parametrize("probability", [0.95, 0.99, 0.9975])
def test_students_quantiles_are_scipys(probability, degrees):
    assert student_quantile(probability, degrees) == pytest.approx(t.ppf(probability, degrees))


@pytest.mark.parametrize(
    ("changes", "correlation", "gains"),
    [(0.01, 0, 0), (0.01, 0.05, 0), (0.03, 0.05, 1 / 3), (0.034, 0.05, None), (0.25, 0.3, None)],
)
def test_a_true_loss_of_the_bound_is_exceeded_in_at_most_one_of_twenty_evaluations(
    changes, correlation, gains
):
    """30 photos of 18 crops; accuracy with a share of gains, or belief lost if that is None."""
    random = np.random.default_rng(0)
    spread = 1 / correlation - 1 if correlation else 1e9
    cost = {0.034: 0.3, 0.25: 0.04}.get(changes, 0.0)
    covered, truth = 0, 0.0
    trials = 1000
    for _ in range(trials):
        rate_G = random.beta(changes * spread, (1 - changes) * spread, PHOTOS)
        changed_N = random.random(PHOTOS * CROPS) < rate_G[GROUPS]
        if gains is None:
            lost_N = changed_N * np.minimum(random.exponential(cost, PHOTOS * CROPS), 0.98)
            truth = 100 * changes * cost * (1 - np.exp(-0.98 / cost))
            # Eager's margins: 0.3 where nothing changes, what is lost where it does.
            margin_N = np.where(changed_N, lost_N, 0.3)
            first = (1 + margin_N) / 2
            eager = np.stack([first, 1 - first], axis=1)
            candidate = np.where(changed_N[:, None], eager[:, ::-1], eager)
            loss = loss_of(eager, candidate, kind="scores", scores="probabilities", groups_N=GROUPS)
        else:
            gained_N = changed_N & (random.random(PHOTOS * CROPS) < gains)
            truth = 100 * changes * (1 - 2 * gains)
            eager = np.eye(2)[gained_N.astype(int)]
            candidate = np.where(changed_N[:, None], eager[:, ::-1], eager)
            loss = loss_of(
                eager,
                candidate,
                kind="scores",
                targets_N=np.zeros(PHOTOS * CROPS, int),
                groups_N=GROUPS,
            )
        covered += loss.bound >= truth
    assert covered / trials >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / trials)
