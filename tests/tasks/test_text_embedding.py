import json

import jsonschema
import numpy as np

from shipway.runtime.model import Model
from shipway.serving.replies import encode
from shipway.tasks.text_embedding import TextEmbedding


def test_an_answer_has_the_vector_and_the_notes_of_its_text(tiny_embedding):
    task = TextEmbedding(Model(tiny_embedding))
    vectors = np.arange(8, dtype="float32").reshape(2, 4)
    notes = [{"tokens": 2, "truncated": False}, {"tokens": 64, "truncated": True}]
    answers = json.loads(encode(task.answers((vectors,), notes)))
    assert [answer["embedding"] for answer in answers] == vectors.tolist()
    assert [answer["truncated"] for answer in answers] == [False, True]
    _, schema = TextEmbedding.native_schema(tiny_embedding.manifest)
    jsonschema.validate(answers, schema)
