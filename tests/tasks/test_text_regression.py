import json

import jsonschema
import numpy as np

from shipway.payloads.request import Request
from shipway.runtime.model import Model
from shipway.serving.service import Service
from shipway.tasks.text_regression import TextRegression
from tests.conftest import retold


def test_each_text_becomes_its_values_with_what_was_cut_off(tiny_classifier, tmp_path):
    """The classifier's logits taken for values."""
    artifact = retold(
        tiny_classifier, tmp_path, name="tiny-texts", task="text_regression", labels=()
    )
    texts = ["cat and dog", "cat " * 200]
    headers = {"content-type": "application/json"}
    bodies = [json.dumps(each).encode() for each in (texts, texts[0])]
    service = Service(Model(artifact))
    several, alone = (
        json.loads(reply.body)
        for reply in service.answer([Request({"body": body}, headers) for body in bodies])
    )
    assert [each["truncated"] for each in several] == [False, True]
    assert len(alone["values"]) == 4 and np.allclose(alone["values"], several[0]["values"])
    _, schema = TextRegression.native_schema(artifact.manifest)
    for answer in (several, alone):
        jsonschema.validate(answer, schema)
