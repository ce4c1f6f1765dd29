"""Tables whose columns say what they may hold."""

import json
import math

import jsonschema
import numpy as np
import pytest
from pydantic import ValidationError

from shipway.payloads.errors import BadRequest
from shipway.payloads.request import Request
from shipway.recipe import Column, TablePreprocessing
from shipway.runtime.model import Model
from shipway.serving.service import Service
from shipway.tasks.tables import number_of, table_contents
from shipway.tasks.tabular_classification import TabularClassification
from tests.conftest import retold

JSON = {"content-type": "application/json"}
COLUMNS = (
    "height",
    Column(name="city", values=("Berlin", "Lyon", "Oslo")),
    Column(name="rooms", integer=True, min=1, max=20),
    Column(name="age", min=0, missing=-1),
    Column(name="heating", values=("gas", "none"), missing=2),
)
NAMES = ("height", "city", "rooms", "age", "heating")
ROW = [1.5, "Oslo", 3, None, "none"]
NUMBERS = [1.5, 2, 3, -1, 1]


@pytest.fixture(scope="module")
def artifact(tiny_table, tmp_path_factory):
    preprocessing = tiny_table.manifest.preprocessing.model_copy(update={"columns": COLUMNS})
    folder = tmp_path_factory.mktemp("columns")
    return retold(tiny_table, folder, name="tiny-columns", preprocessing=preprocessing)


@pytest.fixture(scope="module")
def task(artifact) -> TabularClassification:
    return TabularClassification(Model(artifact))


@pytest.mark.parametrize(
    "row",
    [
        ROW,
        dict(zip(NAMES, ROW, strict=True)),
        {"city": "Oslo", "height": 1.5, "heating": "none", "rooms": 3},
    ],
)
def test_a_row_becomes_the_numbers_that_the_program_takes(task, artifact, row):
    request = Request({"body": json.dumps(row).encode()}, JSON)
    [decoded] = task.decode(task.parse(request).items)
    assert decoded.row[0].tolist() == NUMBERS
    jsonschema.validate(row, table_contents(artifact.manifest)["application/json"])


def test_a_table_of_pandas_may_have_nulls(task):
    table = {"columns": ["rooms", "city", "height", "heating", "age"]}
    table["data"] = [[3, "Oslo", 1.5, None, 7], [1, "Lyon", 0.5, "gas", None]]
    rows = task.decode(task.parse(Request({"body": json.dumps(table).encode()}, JSON)).items)
    assert [each.row[0].tolist() for each in rows] == [[1.5, 2, 3, 7, 2], [0.5, 1, 1, -1, 0]]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"city": "Rome"}, "'city' is 'Rome'; this model knows 'Berlin', 'Lyon', 'Oslo'."),
        ({"city": 2}, "'city' is a JSON number; this model knows"),
        ({"city": None}, "'city' is null, and this model needs a value"),
        ({"rooms": 2.5}, "'rooms' is 2.5; this model takes whole numbers"),
        ({"rooms": 21}, "'rooms' is 21; this model takes at least 1 and at most 20"),
        ({"rooms": "3"}, "do not fit the datatype"),
        ({"rooms": True}, "'rooms' is a JSON boolean"),
        ({"age": -0.5}, "'age' is -0.5; this model takes at least 0 for it"),
        ({"height": None}, "'height' is null"),
        ({"street": "x"}, "Missing or unknown: street"),
    ],
)
def test_a_value_that_its_column_may_not_hold_is_refused_by_name(artifact, changes, says):
    row = dict(zip(NAMES, ROW, strict=True)) | changes
    good = json.dumps([ROW]).encode()
    bad, fine = Service(Model(artifact)).answer(
        [Request({"body": each}, JSON) for each in (json.dumps(row).encode(), good)]
    )
    assert bad.status == 400 and says in json.loads(bad.body)["message"]
    assert fine.status == 200


def test_a_missing_column_without_a_value_for_it_is_named(task):
    [error] = task.decode([{"height": 1.5, "city": "Oslo"}])
    assert isinstance(error, BadRequest) and "Missing or unknown: rooms." in str(error)


def test_numbers_of_any_size_are_compared(task):
    wide = Column(name="x", integer=True)
    assert number_of(2**24, wide) == 2**24
    with pytest.raises(BadRequest, match="whole numbers up to 16,777,216"):
        number_of(2**24 + 1, wide)
    with pytest.raises(BadRequest, match="whole numbers"):
        number_of(math.pi, wide)
    [error] = task.decode([[1.5, "Oslo", 10**400, None, None]])
    assert isinstance(error, BadRequest) and len(str(error)) < 200


def tensors(*row: float) -> bytes:
    data = {"name": "features", "datatype": "FP32", "shape": [2, 5], "data": [*NUMBERS, *row]}
    return json.dumps({"inputs": [data]}).encode()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({1: 3}, "'city' is 3 in row 1, and this model takes 0 to 2 for it."),
        ({1: 0.5}, "'city' is 0.5 in row 1"),
        ({2: 2.5}, "takes whole numbers at least 1 and at most 20 for it."),
        ({2: 21}, "'rooms' is 21"),
        ({3: -0.5}, "takes at least 0, or -1 for it."),
        ({4: 3}, "takes 0 to 1, or 2 for it."),
    ],
)
def test_tensors_hold_the_same_numbers(artifact, changes, says):
    row = [changes.get(place, number) for place, number in enumerate(NUMBERS)]
    service = Service(Model(artifact))
    good, bad = service.answer([Request({"body": tensors(*each)}) for each in (NUMBERS, row)])
    assert good.status == 200, good.body
    assert bad.status == 400 and says in bad.body.decode(), bad.body


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Column(name="a", values=("x",), min=0), "has values, and limits for numbers"),
        (lambda: Column(name="a", values=("x", "x")), "two values of the column 'a' are the same"),
        (lambda: Column(name="a", min=2, max=1), "a max below its min"),
        (lambda: Column(name="a", missing=np.nan), "finite"),
        (
            lambda: TablePreprocessing(columns=("a", Column(name="a")), source="a test"),
            "two columns have the same name",
        ),
    ],
)
def test_columns_that_contradict_themselves_are_refused(make, says):
    with pytest.raises(ValidationError, match=says):
        make()
