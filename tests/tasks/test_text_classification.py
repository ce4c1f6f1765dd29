import json

import jsonschema
import numpy as np

from shipway.runtime.model import Model
from shipway.serving.replies import encode
from shipway.tasks.text_classification import TextClassification


def test_an_answer_ranks_the_classes_and_keeps_the_notes_of_its_text(tiny_classifier):
    manifest = tiny_classifier.manifest
    task = TextClassification(Model(tiny_classifier))
    logits = np.arange(len(manifest.labels), dtype="float32")[None]
    [answer] = task.answers((logits,), [{"tokens": 3, "truncated": False}])
    assert answer["predictions"][0]["label"] == manifest.labels[-1]
    assert (answer["tokens"], answer["truncated"]) == (3, False)
    _, schema = TextClassification.native_schema(manifest)
    jsonschema.validate(json.loads(encode(answer)), schema)
