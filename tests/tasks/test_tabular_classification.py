import json

import numpy as np
import pytest

from shipway.payloads.errors import BadRequest, BadTensor, TooManyRows
from shipway.payloads.request import MAX_ROWS, Request
from shipway.runtime.model import Model
from shipway.tasks.tabular_classification import TabularClassification

ROW = [1, 2, 3, 4, 5]
COLUMNS = ("height", "width", "depth", "weight", "price")


@pytest.fixture(scope="module")
def task(tiny_table) -> TabularClassification:
    return TabularClassification(Model(tiny_table))


def request(value: object) -> Request:
    return Request({"body": json.dumps(value).encode()}, {"content-type": "application/json"})


@pytest.mark.parametrize("row", [ROW, dict(zip(COLUMNS, ROW, strict=True))])
def test_a_row_is_a_list_or_an_object_of_its_columns(task, row):
    inputs = task.parse(request(row))
    assert not inputs.many
    [decoded] = task.decode(inputs.items)
    assert decoded.row[0].tolist() == ROW
    assert decoded.row[0].dtype == np.float32


@pytest.mark.parametrize("value", [[ROW, ROW], {"rows": [ROW, ROW]}, {"data": [ROW, ROW]}])
def test_several_rows_are_a_list_by_itself_or_under_a_name(task, value):
    inputs = task.parse(request(value))
    assert inputs.many and len(inputs.items) == 2


@pytest.mark.parametrize(
    ("row", "error", "says"),
    [
        ([1, 2], BadRequest, "has 2 numbers, and this model takes 5"),
        ({"height": 1}, BadRequest, "Missing or unknown: depth"),
        ("text", BadRequest, "JSON string"),
        ([[1], [2], [3], [4], [5]], BadRequest, "is a list, not a number"),
        ([1, 2, 3, 4, "5"], BadTensor, "do not fit the datatype"),
        ([1, 2, 3, 4, 1e39], BadTensor, "NaN or infinity"),
    ],
)
def test_a_bad_row_becomes_its_error_and_the_others_are_decoded(task, row, error, says):
    bad, good = task.decode([row, ROW])
    assert isinstance(bad, error) and says in str(bad)
    assert good.row[0].tolist() == ROW


def test_a_table_as_pandas_writes_it_is_read_by_its_columns(task):
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in (ROW, ROW[::-1])]
    for columns in (list(COLUMNS), sorted(COLUMNS), list(COLUMNS)[::-1]):
        data = [[row[column] for column in columns] for row in rows]
        table = {"columns": columns, "index": [0, 1], "data": data}
        for value in (table, {key: table[key] for key in ("columns", "data")}):
            inputs = task.parse(request(value))
            assert inputs.many
            found = [each.row[0].tolist() for each in task.decode(inputs.items)]
            assert found == [ROW, ROW[::-1]]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"columns": list(COLUMNS), "data": [ROW], "dtype": 1}, "as pandas"),
        ({"columns": list(COLUMNS)}, "as pandas"),
        ({"columns": list(COLUMNS), "data": ROW}, "a row of `data` is not a list"),
        ({"columns": list(COLUMNS)[:4], "data": [ROW]}, "a row of `data` is not a list"),
        ({"columns": ["height"] * 5, "data": [ROW]}, "different names"),
        ({"columns": [1, 2, 3, 4, 5], "data": [ROW]}, "different names"),
        ({"columns": "height", "data": [ROW]}, "different names"),
        ({"columns": [], "data": []}, "list of rows is empty"),
        ({"data": [ROW], "index": [0]}, "fields that have no meaning: `index`"),
        ({"rows": [ROW], "threshold": 0.5}, "fields that have no meaning: `threshold`"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(task, value, says):
    with pytest.raises(BadRequest, match=says):
        task.parse(request(value))


def test_unknown_columns_are_named(task):
    table = {"columns": ["a", "b", "c", "d", "e"], "data": [ROW]}
    [error] = task.decode(task.parse(request(table)).items)
    assert isinstance(error, BadRequest) and "Missing or unknown: a, b, c, d" in str(error)


def test_no_rows_and_too_many_are_refused(task):
    with pytest.raises(BadRequest, match="empty"):
        task.parse(request([]))
    with pytest.raises(TooManyRows):
        task.parse(request([ROW] * (MAX_ROWS + 1)))


def test_answers_rank_the_labels(task):
    [answer] = task.answers((np.array([[0.0, 2.0, 1.0]], "float32"),), [None])
    assert [each["label"] for each in answer] == ["green", "blue", "red"]
