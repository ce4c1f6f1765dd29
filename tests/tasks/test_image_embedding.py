import json

import jsonschema
import numpy as np

from shipway.payloads.images import decode_image
from shipway.payloads.request import Request
from shipway.runtime.model import Model
from shipway.serving.service import Service
from shipway.tasks.image_embedding import ImageEmbedding
from tests.conftest import encoded, retold


def test_an_image_becomes_its_vector(tiny_artifact, tmp_path):
    """The classifier's logits taken for a vector."""
    artifact = retold(
        tiny_artifact, tmp_path, name="tiny-vectors", task="image_embedding", labels=()
    )
    image = encoded(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    model = Model(artifact)
    [result] = model.run([(decode_image(image, artifact.manifest.preprocessing),)])
    [reply] = Service(model).answer([Request({"body": image})])
    assert reply.status == 200
    answer = json.loads(reply.body)
    assert np.allclose(answer["embedding"], result.outputs[0], atol=1e-5)
    _, schema = ImageEmbedding.native_schema(artifact.manifest)
    jsonschema.validate(answer, schema)
