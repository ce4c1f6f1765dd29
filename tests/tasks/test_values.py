"""Numbers and vectors as answers."""

import json

import jsonschema
import numpy as np
import pytest

from shipway.payloads.schemas import an_object
from shipway.runtime.model import Model
from shipway.serving.replies import encode
from shipway.tasks.text_embedding import TextEmbedding
from shipway.tasks.values import VECTOR, valued, valued_schema


@pytest.mark.parametrize(
    ("outputs", "labels", "answers"),
    [
        ([1.5, 2.5], (), [{"value": 1.5}, {"value": 2.5}]),
        ([[1.5], [2.5]], (), [{"value": 1.5}, {"value": 2.5}]),
        ([[1.5], [2.5]], ("price",), [{"values": {"price": 1.5}}, {"values": {"price": 2.5}}]),
        ([[1.5, 0.1]], (), [{"values": [1.5, 0.1]}]),
        ([[1.5, 0.1]], ("x", "y"), [{"values": {"x": 1.5, "y": 0.1}}]),
    ],
)
def test_values_are_one_several_or_named(tiny_table, outputs, labels, answers):
    array = np.array(outputs, np.float32)
    found = json.loads(encode(valued((array,), labels)))
    assert found == answers  # in the digits of float32
    output = tiny_table.manifest.outputs[0]
    shape = (output.shape[0], *array.shape[1:])
    manifest = tiny_table.manifest.model_copy(
        update={"labels": labels, "outputs": (output.model_copy(update={"shape": shape}),)}
    )
    for each in found:
        jsonschema.validate(each, an_object(valued_schema(manifest)))


def test_a_vector_has_the_notes_of_its_row(tiny_embedding):
    task = TextEmbedding(Model(tiny_embedding))
    embeddings = np.arange(8, dtype="float32").reshape(4, 2).T
    found = json.loads(encode(task.answers((embeddings,), [None, {"tokens": 3}])))
    assert found == [
        {"embedding": [0.0, 2.0, 4.0, 6.0]},
        {"embedding": [1.0, 3.0, 5.0, 7.0], "tokens": 3},
    ]
    jsonschema.validate(found[0], an_object(VECTOR))
