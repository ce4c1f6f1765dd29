import json

import jsonschema
import numpy as np
import torch

from shipway.artifact.bundle import open_artifact
from shipway.export.pipeline import export
from shipway.export.recipe_file import find_recipe
from shipway.payloads.images import decode_image
from shipway.payloads.request import Request
from shipway.runtime.model import Model
from shipway.serving.service import Service
from shipway.tasks.image_embedding import ImageEmbedding
from tests.conftest import TINY_RECIPE, Silent, encoded, retold


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


def test_a_grey_letterboxed_image_is_exported_and_answered_as_eager_answers(tmp_path):
    text = TINY_RECIPE.read_text()
    for before, after in (
        ("nn.Conv2d(3, 32", "nn.Conv2d(1, 32"),
        ("Path(tempfile.gettempdir())", "Path(__file__).parent"),
        ("(24, 4, 4, 3)", "(24, 4, 4, 1)"),
        ('name="tiny"', 'name="tiny-grey", task="image_embedding"'),
        ("crop_fraction=1.0", 'fit="letterbox", fill=0, channels=1'),
        ("mean=(127.0, 127.0, 127.0)", "mean=(127.0,)"),
        ("std=(128.0, 128.0, 128.0)", "std=(128.0,)"),
        ('[f"class {index}" for index in range(10)]', "[]"),
    ):
        assert before in text, before
        text = text.replace(before, after)
    (tmp_path / "grey.py").write_text(text)
    exported = export(str(tmp_path / "grey.py"), Silent(), out=tmp_path, only=("onnx_fp32",))
    artifact = open_artifact(exported.path)
    assert artifact.manifest.inputs[0].shape[1:] == (64, 64, 1)
    image = encoded(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    [reply] = Service(Model(artifact)).answer([Request({"body": image})])
    recipe, _ = find_recipe(str(tmp_path / "grey.py"))
    module = recipe.module()
    module.load_state_dict(torch.load(recipe.weights()))
    pixels_HWC = decode_image(image, recipe.preprocessing)
    assert (pixels_HWC[0] == 0).all()  # around it
    x_BCHW = (torch.from_numpy(pixels_HWC.copy()).permute(2, 0, 1)[None] - 127.0) / 128.0
    with torch.inference_mode():
        [expected] = module.eval()(x_BCHW).numpy()
    assert np.allclose(json.loads(reply.body)["embedding"], expected, atol=1e-5)
