"""Programs that are right for the evaluation rows only."""

import numpy as np
import pytest

from shipway.export.elsewhere import rescaled, run_elsewhere, why_wrong_batch, why_wrong_elsewhere
from shipway.export.errors import BadInputs
from shipway.export.verify import TOLERANCES, measure_of
from shipway.recipe import Axis, Rows, TensorSpec

BATCH, TIME = Axis(name="batch", min=1, max=8), Axis(name="time", min=2, max=64)
INPUTS = (TensorSpec(name="x", dtype="float32", shape=(BATCH, TIME)),)
ROWS = (np.random.default_rng(0).normal(size=(12, 10)).astype(np.float32),)


class Function:
    """A program that is a function of its one input."""

    def __init__(self, function) -> None:
        self._function = function

    def run(self, inputs):
        return [np.asarray(self._function(inputs[0]), np.float32)]


def total(x):
    return x.sum(axis=1)


def ten_steps(x):
    """As a tracer writes a loop over ten steps down."""
    return x[:, :10].sum(axis=1)


def first_only(x):
    if x.shape[1] != 10:
        raise RuntimeError("Got invalid dimensions for input: x\nExpected: 10")
    return total(x)


def doubled(x):
    return x * 2


REFERENCES = {"output": total(*ROWS)}
MEASURES = (measure_of("output", REFERENCES["output"], "values", "logits"),)


def verdict(function, branches: Rows | None = None) -> str | None:
    tried = list(run_elsewhere(Function(total), ROWS, INPUTS, ["output"], branches))
    return why_wrong_elsewhere(Function(function), tried, MEASURES, REFERENCES, TOLERANCES["fp32"])


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (total, None),
        (ten_steps, "with time = 23 its output output has a relative error of"),
        (first_only, "with time = 2 it fails: Got invalid dimensions for input: x"),
        (doubled, "with time = 2 its output output for 3 rows has shape"),
    ],
)
def test_a_loop_that_was_written_down_for_one_length_is_found(function, reason):
    found = verdict(function)
    assert found is None if reason is None else found.startswith(reason)


def test_each_row_that_takes_a_branch_is_compared_alone():
    def one_side(x):
        return np.where(x.max(axis=1) > 100, 0, total(x))

    large = np.zeros((2, 10), np.float32)
    large[1, 3] = 200
    assert verdict(one_side) is None
    assert verdict(total, Rows((large,))) is None
    found = verdict(one_side, Rows((large,)))
    assert found is not None and found.startswith("for branch row 1 its output output has a")


def test_eager_itself_must_be_finite_at_every_size():
    def divided(x):
        return total(x) / np.float32(x.shape[1] != 23)

    with np.errstate(divide="ignore"), pytest.raises(BadInputs, match=r"infinite with time = 23,"):
        list(run_elsewhere(Function(divided), ROWS, INPUTS, ["output"]))


def test_a_program_that_is_wrong_at_one_batch_size_is_found():
    def wrong_for_seven(x):
        return -total(x) if len(x) == 7 else total(x)

    for function, reason in ((total, None), (wrong_for_seven, "at batch 7 a row's outputs change")):
        found = why_wrong_batch(
            Function(function),
            range(1, 9),
            (ROWS, INPUTS),
            MEASURES,
            REFERENCES,
            0.1,
        )
        assert found is None if reason is None else found.startswith(reason)


def test_rows_of_another_length_have_the_same_spread_for_each_number():
    reference = np.random.default_rng(0).normal(size=(400, 100)).astype(np.float32)
    measure = measure_of("output", reference, "values", "logits")
    (spread,) = rescaled(measure, reference, reference[:3, :25]).spread
    assert spread == pytest.approx(5, rel=0.05)
    assert rescaled(measure, reference, reference[:3]) is measure
