import numpy as np
import pytest

from shipway.tasks.classes import probabilities_of, rank

LABELS = ["cat", "dog", "fish"]


def test_classes_are_ranked_by_softmax_probability():
    [first, second] = rank(np.array([[0.0, 1.0, -1.0], [3.0, 0.0, 0.0]], "float32"), LABELS, 2)
    assert [each["label"] for each in first] == ["dog", "cat"]
    assert [each["class_id"] for each in second] == [0, 1]  # equal ones by their place
    weights = np.exp([1.0, 0.0, -1.0])
    assert first[0]["probability"] == pytest.approx(weights[0] / weights.sum())


def test_probabilities_sum_to_one_for_logits_of_any_size():
    [ranked] = rank(np.array([[1e4, -1e4, 1e4]]), LABELS, 3)
    assert sum(each["probability"] for each in ranked) == pytest.approx(1)
    assert [each["label"] for each in ranked[:2]] == ["cat", "fish"]


def test_each_kind_of_scores_has_its_probabilities():
    outputs = np.array([[-1.0, 0.5, 800.0]])
    logistic = [[0.26894142, 0.62245933, 1.0]]
    assert np.allclose(probabilities_of(outputs, "multi_label"), logistic)
    assert probabilities_of(outputs, "probabilities").tolist() == outputs.tolist()
    for one in (np.array([-1.0, 0.5]), np.array([[-1.0], [0.5]])):
        expected = [[0.73105858, 0.26894142], [0.37754067, 0.62245933]]
        assert np.allclose(probabilities_of(one, "binary"), expected)


def test_labels_that_are_independent_need_not_add_up_to_one():
    [ranked] = rank(np.array([[3.0, -3.0, 4.0]]), LABELS, 2, "multi_label")
    assert [each["label"] for each in ranked] == ["fish", "cat"]
    assert sum(each["probability"] for each in ranked) > 1.9
