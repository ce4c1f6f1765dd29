from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from shipway import recipe as module
from shipway.recipe import (
    Axis,
    ImagePreprocessing,
    Inputs,
    InvalidRecipe,
    Recipe,
    Rows,
    TablePreprocessing,
    TensorPreprocessing,
    TensorSpec,
    TextPreprocessing,
)

BATCH = Axis(name="batch", max=8)
INPUTS = Inputs(description="none", load=lambda recipe: Rows((np.zeros((1, 2)),)))
IMAGE = ImagePreprocessing(
    height=4,
    width=6,
    crop_fraction=1,
    resample="bilinear",
    mean=(0, 0, 0),
    std=(1, 1, 1),
    source="a test",
)
TEXT = TextPreprocessing(
    tokenizer="files/tokenizer.json", max_length=16, too_long="refuse", pad_id=3, source="a test"
)
TABLE = TablePreprocessing(columns=("a", "b"), source="a test")
TENSOR = TensorSpec(name="x", dtype="float32", shape=(BATCH, 2))


def made(**changes: Any) -> Recipe:
    fields: dict[str, Any] = {
        "name": "m",
        "module": lambda: None,
        "weights": lambda: None,
        "batch": BATCH,
        "preprocessing": TABLE,
        "calibration": INPUTS,
        "evaluation": INPUTS,
    }
    return Recipe(**fields | changes)


@pytest.mark.parametrize(
    ("preprocessing", "inputs"),
    [
        (IMAGE, [("pixels", "uint8", (BATCH, 4, 6, 3))]),
        (
            TEXT,
            [
                (name, "int64", (BATCH, Axis(name="length", min=2, max=16)))
                for name in ("input_ids", "attention_mask")
            ],
        ),
        (TABLE, [("features", "float32", (BATCH, 2))]),
        (TensorPreprocessing(inputs=(TENSOR,), source="a test"), [("x", "float32", (BATCH, 2))]),
    ],
)
def test_each_kind_of_preprocessing_gives_the_programs_inputs(preprocessing, inputs):
    found = made(preprocessing=preprocessing).inputs
    assert [(spec.name, spec.dtype, spec.shape) for spec in found] == inputs


def test_only_texts_are_padded_and_need_a_file():
    assert (TEXT.pad_values, TEXT.files) == ((3, 0), ("files/tokenizer.json",))
    for other in (IMAGE, TABLE):
        assert (other.pad_values, other.files) == (None, ())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "a model"}, "The name 'a model' cannot be used. Use up to 128 letters"),
        ({"version": ""}, "The version '' cannot be used"),
        ({"task": "a task"}, "The task 'a task' cannot be used"),
        ({"preprocessing": "image"}, r"preprocessing is 'image', of type str. Give ImagePre"),
        ({"batch": 8}, r"batch is '8', of type int. Give Axis\(name=\"batch\""),
        ({"calibration": None}, "calibration is 'None', of type NoneType. Give Inputs"),
        ({"module": None}, "module is 'None'.*Give a function without arguments"),
        ({"labels": ["a"]}, "labels is .*of type list. Give a function.*`labels=lambda: …`"),
        ({"files": {}}, "files is .*of type dict. Give a function"),
        ({"top_k": 0}, "top_k is '0', of type int. Give a whole number of at least 1"),
        ({"top_k": True}, "top_k is 'True', of type bool"),
        ({"budget": -1.0}, "budget is '-1.0', of type float. Give the percentage points"),
        ({"budget": float("nan")}, "budget is 'nan'"),
        ({"budget": "1"}, "budget is '1', of type str"),
        ({"tolerances": {"fp32": 0.1}}, r"for fp32 is '0.1', of type float. Give tolerances="),
        ({"plugins": "points"}, "plugins are 'points', of type str. Give a list of names"),
        ({"plugins": ["points.py"]}, "plugins contain 'points.py', of type str. Give the name"),
        ({"plugins": ["../points"]}, "plugins contain '../points'"),
    ],
)
def test_a_field_that_cannot_be_used_is_refused_with_what_to_give(changes, says):
    with pytest.raises(InvalidRecipe, match=says):
        made(**changes)


def test_a_field_that_does_not_exist_is_named():
    with pytest.raises(TypeError, match="colour"):
        made(colour="red")
    with pytest.raises(ValidationError, match="colour"):
        TablePreprocessing(columns=("a",), source="a test", colour="red")


def test_an_axis_never_ends_before_it_begins():
    with pytest.raises(ValidationError, match="has max 1, which is below its min 2"):
        Axis(name="n", min=2, max=1)


def test_a_dtype_is_one_of_those_that_are_named():
    with pytest.raises(
        ValidationError, match="'float' is no dtype of a tensor; give one of bool, uint8"
    ):
        TensorSpec(name="x", dtype="float", shape=(BATCH, 2))


def test_tensors_have_names_of_their_own_and_shared_axes_the_same_bounds():
    short, long = (Axis(name="length", max=size) for size in (8, 16))
    specs = [TensorSpec(name="x", dtype="float32", shape=(BATCH, axis)) for axis in (short, long)]
    with pytest.raises(ValidationError, match="two inputs have the same name"):
        TensorPreprocessing(inputs=[specs[0], specs[0]], source="a test")
    other = specs[1].model_copy(update={"name": "y"})
    with pytest.raises(ValidationError, match="'length' goes from 1 to 8 in .* to 16 in 'y'"):
        TensorPreprocessing(inputs=[specs[0], other], source="a test")


def test_rows_are_as_many_as_their_first_axis():
    assert len(Rows((np.zeros((3, 2)), np.zeros((3, 5))))) == 3


def test_all_that_is_public_has_a_docstring():
    for name in module.__all__:
        public = getattr(module, name)
        if isinstance(public, type):
            assert public.__doc__ and not public.__doc__.startswith(f"{name}("), name
