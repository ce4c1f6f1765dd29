"""What the errors are relative to. tests/export/test_verify.py has what fails and what passes."""

import numpy as np
import pytest

from shipway.artifact.measures import by_column, cosines, errors_of, kind_of, spread_of

RNG = np.random.default_rng(0)


def test_a_constant_answer_has_an_error_of_one():
    outputs = RNG.normal(size=(50, 4)) * [1, 2, 3, 100] + 1000
    constant = np.broadcast_to(outputs.mean(axis=0), outputs.shape)
    for kind in ("scores", "embedding", "values"):
        error, _ = errors_of(outputs, constant, kind, spread_of(outputs, kind))
        assert error == pytest.approx(1)
    labels = RNG.integers(0, 3, (50, 2))
    common = np.stack([np.full(50, np.bincount(column).argmax()) for column in labels.T], axis=1)
    error, _ = errors_of(labels, common, "labels", spread_of(labels, "labels"))
    assert error == pytest.approx(1)


def test_the_worst_column_counts_where_columns_have_units():
    outputs = RNG.normal(size=(50, 2)) * [1e-3, 1e3]
    moved = outputs + [1e-4, 0]
    assert spread_of(outputs, "values") == pytest.approx(outputs.std(axis=0))
    assert errors_of(outputs, moved, "values", spread_of(outputs, "values"))[0] > 0.05
    assert errors_of(outputs, moved, "scores", spread_of(outputs, "scores"))[0] < 1e-6
    assert by_column(outputs, "values") and by_column(outputs[:, 0], "values")
    assert not by_column(RNG.normal(size=(5, 65)), "values")
    assert not by_column(RNG.normal(size=(5, 2, 2)), "values")


def test_integers_and_booleans_are_labels_whatever_the_task_says():
    assert kind_of(np.zeros(2, bool), "scores") == "labels"
    assert kind_of(np.zeros(2, np.int32), "embedding") == "labels"
    assert kind_of(np.zeros(2, np.float16), "embedding") == "embedding"


def test_the_spread_of_labels_is_what_the_most_common_one_gets_wrong():
    labels = np.array([[1, 0], [1, 0], [2, 0], [3, 1]])
    assert spread_of(labels, "labels") == (pytest.approx((0.5 + 0.25) / 2),)


def test_rows_without_a_direction_have_a_cosine_of_one_and_lost_ones_of_zero():
    rows = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    found = np.array([[1.0, 0.0], [1e-6, 0.0], [0.0, 0.0], [np.nan, 1.0]])
    values = cosines(rows, found)
    assert values[:3].tolist() == [1, 1, 0]
    assert np.isnan(values[3])
