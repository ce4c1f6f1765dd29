"""What the child process says of an error."""

import shutil

import numpy as np

from shipway.export import worker
from shipway.export.techniques import TECHNIQUES
from shipway.export.techniques.base import Unavailable
from shipway.recipe import Rows


def test_a_skipped_technique_says_why_without_a_traceback():
    assert worker._reason(Unavailable("no compiler")) == "skipped: no compiler"
    assert shutil.which("g++"), "the compiled format is tried in these tests"


def test_reasons_are_one_line_without_colours():
    wrapped = RuntimeError("\x1b[96mThis is step 1/3\x1b[0m of exporting")
    wrapped.__cause__ = ValueError("line 7 of model.py\nmore")
    assert worker._reason(wrapped) == "ValueError: line 7 of model.py"


def test_rows_are_read_as_they_were_written(tmp_path):
    assignment = worker.Assignment(
        recipe="r", weights=None, folder=tmp_path, threads=1, log=tmp_path / "log"
    )
    arrays = (np.arange(6).reshape(3, 2), np.ones((3, 1)))
    rows = Rows(arrays, targets=np.array([0, 1, 2]), groups=np.array([4, 4, 9]))
    assignment.write_rows("evaluation", rows)
    assignment.write_rows("calibration", Rows(rows.arrays[:1]))
    back = assignment.read_rows("evaluation")
    assert all(map(np.array_equal, back.arrays, rows.arrays))
    assert np.array_equal(back.targets, rows.targets)
    assert np.array_equal(back.groups, rows.groups)
    other = assignment.read_rows("calibration")
    assert (other.targets, other.groups) == (None, None)


def test_a_refused_candidate_says_what_it_would_have_been():
    candidate = worker.refused(TECHNIQUES.get("onnx_int8"), "its process crashed")
    assert (candidate.passed, candidate.verdict) == (False, "its process crashed")
    assert (candidate.format, candidate.runtime, candidate.precision) == (
        "onnx",
        "onnxruntime",
        "int8",
    )
