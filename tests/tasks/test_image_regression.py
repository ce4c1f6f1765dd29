import json

import jsonschema
import numpy as np

from shipway.payloads.images import decode_image
from shipway.payloads.request import Request
from shipway.runtime.model import Model
from shipway.serving.service import Service
from shipway.tasks.image_regression import ImageRegression
from tests.conftest import encoded, retold


def test_an_image_becomes_the_values_that_the_labels_name(tiny_artifact, tmp_path):
    """The classifier's logits taken for values."""
    names = tuple(f"value {place}" for place in range(len(tiny_artifact.manifest.labels)))
    artifact = retold(
        tiny_artifact, tmp_path, name="tiny-values", task="image_regression", labels=names
    )
    image = encoded(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    model = Model(artifact)
    [result] = model.run([(decode_image(image, artifact.manifest.preprocessing),)])
    [reply] = Service(model).answer([Request({"body": image})])
    assert reply.status == 200
    answer = json.loads(reply.body)
    assert tuple(answer["values"]) == names
    assert np.allclose([*answer["values"].values()], result.outputs[0], atol=1e-5)
    _, schema = ImageRegression.native_schema(artifact.manifest)
    jsonschema.validate(answer, schema)
