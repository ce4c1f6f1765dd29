"""Programs are tried at shapes that were not traced."""

import numpy as np
import pytest

from shipway.export.errors import BadInputs
from shipway.export.shapes import (
    at_sizes,
    described_outputs,
    dynamic_axes,
    in_words,
    sizes_of,
    tried_sizes,
)
from shipway.recipe import Axis, TensorSpec, TextPreprocessing

BATCH = Axis(name="batch", min=1, max=8)
TIME = Axis(name="time", min=2, max=64)
WIDTH = Axis(name="width", min=1, max=64)
INPUTS = (
    TensorSpec(name="x", dtype="float32", shape=(BATCH, 3, TIME)),
    TensorSpec(name="y", dtype="float32", shape=(BATCH, WIDTH, TIME)),
)


def test_each_axis_is_tried_at_its_bounds_and_at_primes_between_them():
    tried = tried_sizes(INPUTS)
    assert dynamic_axes(INPUTS) == {"time": TIME, "width": WIDTH}
    assert tried[0] == {"time": 2, "width": 1} and tried[-1] == {"time": 64, "width": 64}
    assert tried[1:-1] == [{"time": 23, "width": 19}, {"time": 43, "width": 41}]
    assert in_words(tried[1]) == "with time = 23, width = 19"


def test_axes_that_are_short_or_fixed_are_tried_at_what_there_is():
    short = Axis(name="time", min=4, max=4)
    assert tried_sizes((TensorSpec(name="x", dtype="int64", shape=(BATCH, short)),)) == [
        {"time": 4}
    ]
    assert tried_sizes((TensorSpec(name="x", dtype="int64", shape=(BATCH, 5)),)) == []


def test_sizes_that_no_memory_holds_are_left_out():
    endless = TensorSpec(
        name="x", dtype="float32", shape=(BATCH, Axis(name="time", min=1, max=2**30))
    )
    assert tried_sizes((endless,)) == [{"time": 1}]


def test_rows_are_cut_or_repeated_to_a_size():
    x = np.arange(5 * 3 * 4, dtype=np.float32).reshape(5, 3, 4)
    y = np.arange(5 * 2 * 4, dtype=np.float32).reshape(5, 2, 4)
    assert sizes_of((x, y), INPUTS) == {"time": 4, "width": 2}
    longer, wider = at_sizes((x, y), INPUTS, {"time": 6, "width": 3})
    assert (longer.shape, wider.shape) == ((3, 3, 6), (3, 3, 6))
    assert (longer[:, :, 4:] == x[:3, :, :2]).all()
    assert (wider[:, 2] == wider[:, 0]).all()


def test_texts_have_tokens_in_every_place():
    preprocessing = TextPreprocessing(
        tokenizer="files/t.json", max_length=16, too_long="refuse", source="a test"
    )
    inputs = preprocessing.input_specs(BATCH)
    ids = np.array([[5, 6, 7, 0], [8, 9, 0, 0]])
    found, mask = at_sizes((ids, (ids > 0).astype(np.int64)), inputs, {"length": 7})
    assert found.shape == (3, 7) and (found > 0).all() and (mask == 1).all()


def test_an_output_axis_is_that_of_an_input_where_both_have_the_same_size():
    found = [
        (sizes, [np.zeros((2, 3, sizes["time"])), np.zeros((2, sizes["time"] // 2 + 1), bool)])
        for sizes in tried_sizes(INPUTS)
    ]
    same, half = described_outputs(["same", "half"], BATCH, INPUTS, found)
    assert same.shape == (BATCH, 3, TIME)
    assert half == TensorSpec(
        name="half", dtype="bool", shape=(BATCH, Axis(name="half_1", min=2, max=33))
    )


def test_outputs_whose_axes_come_and_go_are_refused():
    found = [({"time": 2}, [np.zeros((2, 3))]), ({"time": 3}, [np.zeros((2, 3, 1))])]
    with pytest.raises(BadInputs, match="rows of the module's output a have the shapes"):
        described_outputs(["a"], BATCH, INPUTS, found)
