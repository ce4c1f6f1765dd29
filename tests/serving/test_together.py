"""What is computed for all requests of a batch at once."""

import numpy as np
import pytest

from shipway.runtime.model import Batch, RowResult
from shipway.serving.together import finite_rows, stacked

BATCH = Batch(
    rows=1,
    size=1,
    length=0,
    padding=0.0,
    preprocess_ms=0.0,
    host_to_device_ms=0.0,
    inference_ms=0.0,
)


def row(*outputs: np.ndarray, error: Exception | None = None) -> RowResult:
    return RowResult(BATCH, outputs, error)


def test_the_outputs_of_all_rows_are_stacked_in_order():
    rows = [row(np.full(3, number, np.float32), np.array(number)) for number in range(4)]
    outputs = stacked(rows)
    assert outputs is not None
    logits_RK, classes_R = outputs
    assert logits_RK.shape == (4, 3) and classes_R.tolist() == [0, 1, 2, 3]
    for number, each in enumerate(rows):
        assert np.array_equal(logits_RK[number], each.outputs[0])


@pytest.mark.parametrize(
    "other", [row(np.zeros(2)), row(np.zeros((3, 1))), row(error=ValueError("broken"))]
)
def test_rows_of_other_shapes_and_rows_that_failed_are_left_to_their_requests(other):
    assert stacked([row(np.zeros(3)), other]) is None


def test_rows_are_finite_if_all_their_floats_are():
    floats_RK = np.zeros((4, 2, 2), np.float16)
    floats_RK[1, 0, 1] = np.nan
    other_R = np.array([0.0, 0.0, -np.inf, 0.0])
    integers_R = np.arange(4)
    assert finite_rows([floats_RK, integers_R, other_R], 4).tolist() == [True, False, False, True]
    assert finite_rows([integers_R], 4).all()
