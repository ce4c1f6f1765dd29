import json

import pytest

from shipway.tasks import demo_inputs


def test_a_package_that_is_not_installed_has_no_folder_and_gives_no_photos(monkeypatch):
    assert demo_inputs.folder_of("no_such_package") is None
    monkeypatch.setattr(demo_inputs, "folder_of", lambda package: None)
    assert (demo_inputs.photo_files(), demo_inputs.sentences()) == ([], [])
    assert demo_inputs.table_rows(4) == () and demo_inputs.numbers([]) == ()


def test_photos_are_jpegs_of_different_sizes():
    photos = demo_inputs.photos()
    assert len(photos) == 5
    assert all(each.body.startswith(b"\xff\xd8") for each in photos)
    assert len({len(each.body) for each in photos}) == 5


def test_sentences_have_four_words_or_more():
    texts = demo_inputs.texts()
    assert len(texts) > 50
    assert all(len(each.body.split()) >= 4 for each in texts)


@pytest.mark.parametrize("columns", [1, 4, 13, 100])
def test_rows_of_a_table_have_as_many_columns_as_the_model(columns):
    rows = demo_inputs.table_rows(columns)
    assert len(rows) == demo_inputs.ROWS
    assert all(len(json.loads(each.body)) == columns for each in rows)


def test_tensors_have_the_shape_and_kind_that_the_model_takes():
    specs = [
        {"name": "x", "datatype": "FP32", "shape": [-1, 3, -1]},
        {"name": "ids", "datatype": "INT64", "shape": [-1, 2]},
    ]
    value = json.loads(demo_inputs.numbers(specs)[0].body)
    assert len(value["x"]) == 1 and len(value["x"][0]) == 3
    assert len(value["x"][0][0]) == demo_inputs.LENGTH
    assert set(value["ids"][0]) <= {0, 1}
