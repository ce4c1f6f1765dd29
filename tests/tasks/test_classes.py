import numpy as np
import pytest

from shipway.tasks.classes import rank

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
