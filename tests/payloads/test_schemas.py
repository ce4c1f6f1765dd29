import jsonschema
import pytest

from shipway.payloads.request import MAX_ROWS
from shipway.payloads.schemas import an_object, nested, one_or_several, sizes
from shipway.recipe import Axis, TensorSpec

SPEC = TensorSpec(
    name="x",
    dtype="int64",
    shape=(Axis(name="batch", max=2), Axis(name="time", min=1, max=3)),
)


def is_valid(value: object, schema: dict) -> bool:
    return jsonschema.Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize("value", [[[1]], [[1, 2, 3]], [[1], [2], [3]]])
def test_a_tensor_within_its_axes_is_valid(value):
    assert is_valid(value, nested(SPEC))


@pytest.mark.parametrize("value", [[], [[]], [[1, 2, 3, 4]], [["1"]], [1], [[0.5]]])
def test_a_tensor_outside_its_axes_is_not(value):
    assert not is_valid(value, nested(SPEC))


def test_a_row_lacks_the_batch_axis():
    assert is_valid([1, 2], nested(SPEC, 1))
    assert not is_valid([[1, 2]], nested(SPEC, 1))


def test_a_request_may_have_more_rows_than_one_run():
    assert sizes(SPEC.shape[0], rows=True)["maximum"] == MAX_ROWS
    assert sizes(SPEC.shape[0])["maximum"] == 2
    assert sizes(7) == {"type": "integer", "minimum": 7, "maximum": 7}


def test_one_row_may_stand_by_itself_or_in_a_list():
    schema = one_or_several(an_object({"a": {"type": "number"}}))
    assert is_valid({"a": 1, "b": 2}, schema) and is_valid([{"a": 1}, {"a": 2}], schema)
    assert not is_valid({"b": 1}, schema) and not is_valid([], schema)
