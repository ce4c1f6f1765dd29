"""What one process of an export writes, another reads."""

import numpy as np

from shipway.export.handover import Handover
from shipway.recipe import Rows


def test_rows_are_read_as_they_were_written(tmp_path):
    handover = Handover(folder=tmp_path)
    arrays = tuple(np.full((3, 2), number) for number in range(12))
    rows = Rows(arrays, np.array([0, 1, 2]), np.array([4, 4, 5]))
    handover.write_rows("evaluation", rows)
    handover.write_rows("calibration", Rows(rows.arrays[:1]))
    back = handover.read_rows("evaluation")
    assert len(back.arrays) == 12, "also where there are more than ten inputs"
    assert all(map(np.array_equal, back.arrays, rows.arrays))
    assert np.array_equal(back.targets, rows.targets)
    assert np.array_equal(back.groups, rows.groups)
    assert handover.read_rows("calibration").targets is None
    assert handover.read_rows("calibration").groups is None


def test_eagers_outputs_are_read_as_they_were_written(tmp_path):
    outputs = {"scores": np.ones((2, 3), "float32"), "class": np.array([1, 2])}
    handover = Handover(folder=tmp_path)
    handover.write_reference(outputs)
    back = handover.read_reference()
    assert list(back) == list(outputs)
    assert all(np.array_equal(back[name], outputs[name]) for name in outputs)
    assert back["class"].dtype == outputs["class"].dtype
