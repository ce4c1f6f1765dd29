import json

import numpy as np
import pytest

from shipway.payloads.errors import BadRequest, BadTensor
from shipway.payloads.request import Request
from shipway.runtime.model import Model
from shipway.tasks.tensors import Tensors
from tests.payloads.test_tensors import npy

JSON = {"content-type": "application/json"}
PAIR = {"values": np.zeros((2, 6, 3)).tolist(), "which": np.zeros((2, 1, 3), int).tolist()}


@pytest.fixture(scope="module")
def pair(tiny_tensors) -> Tensors:
    return Tensors(Model(tiny_tensors))


@pytest.fixture(scope="module")
def array(tiny_array) -> Tensors:
    return Tensors(Model(tiny_array))


def test_two_inputs_come_by_name_and_are_zipped_by_row(pair):
    inputs = pair.parse(Request({"body": json.dumps(PAIR).encode()}, JSON))
    assert inputs.many and len(inputs.items) == 2
    assert [[each.shape for each in row] for row in inputs.items] == [[(6, 3), (1, 3)]] * 2
    assert [decoded.row for decoded in pair.decode(inputs.items)] == list(inputs.items)


def test_inputs_that_are_missing_are_named(pair):
    body = json.dumps({"values": PAIR["values"]}).encode()
    with pytest.raises(BadRequest, match="'values'; this model takes values, which"):
        pair.parse(Request({"body": body}, JSON))


def test_inputs_that_differ_in_a_shared_axis_are_refused(pair):
    body = json.dumps(PAIR | {"which": np.zeros((2, 1, 4), int).tolist()}).encode()
    with pytest.raises(BadTensor, match="time 4|length 4|differ"):
        pair.parse(Request({"body": body}, JSON))


def test_a_model_of_one_input_takes_a_bare_list_and_a_npy_file(array):
    rows = np.arange(10, dtype="float32").reshape(2, 5)
    for request in (
        Request({"body": json.dumps(rows.tolist()).encode()}, JSON),
        Request({"body": npy(rows)}, {"content-type": "application/x-npy"}),
    ):
        items = array.parse(request).items
        assert np.array_equal(np.stack([row for (row,) in items]), rows)


def test_a_model_of_two_inputs_takes_neither(pair):
    with pytest.raises(BadRequest, match="takes 2 inputs"):
        pair.parse(Request({"body": b"[[1]]"}, JSON))


def test_an_answer_has_each_output_of_its_row_by_name(array):
    logits = np.arange(6, dtype="float32").reshape(2, 3)
    answers = array.answers((logits,), [None, None])
    assert [answer["logits"].tolist() for answer in answers] == logits.tolist()
