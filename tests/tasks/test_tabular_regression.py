import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch

from shipway.artifact.bundle import open_artifact
from shipway.export.errors import BadInputs
from shipway.export.pipeline import export
from shipway.export.recipe_file import find_recipe
from shipway.payloads.request import Request
from shipway.runtime.model import Model
from shipway.serving.service import Service
from shipway.tasks.tabular_regression import TabularRegression
from tests.conftest import DATA, Silent

ROW = [0.5, -1.0, 2.0, 0.1, 0.3]
TABLE = DATA / "tiny_table_recipe.py"


def recipe(folder: Path, labels: str) -> Path:
    """The recipe of the small table, as a regression to three values."""
    text = TABLE.read_text()
    for before, after in (
        ('task="tabular_classification"', 'task="tabular_regression"'),
        ('labels=lambda: ["red", "green", "blue"]', f"labels=lambda: {labels}"),
    ):
        assert before in text
        text = text.replace(before, after)
    (folder / "regression.py").write_text(text)
    return folder / "regression.py"


def test_a_regression_is_exported_and_answers_its_values_by_name(tmp_path):
    path = recipe(tmp_path, '["mass", "volume", "age"]')
    exported = export(str(path), Silent(), out=tmp_path, only=("onnx_fp32",))
    artifact = open_artifact(exported.path)
    [reply] = Service(Model(artifact)).answer(
        [Request({"body": json.dumps(ROW).encode()}, {"content-type": "application/json"})]
    )
    assert reply.status == 200
    answer = json.loads(reply.body)
    found, _ = find_recipe(str(path))
    module = found.module()
    module.load_state_dict(torch.load(found.weights()))
    with torch.inference_mode():
        [expected] = module.eval()(torch.tensor([ROW])).numpy()
    assert list(answer["values"]) == ["mass", "volume", "age"]
    assert np.allclose([*answer["values"].values()], expected, atol=1e-5)
    _, schema = TabularRegression.native_schema(artifact.manifest)
    jsonschema.validate(answer, schema)


def test_labels_that_are_not_as_many_as_the_values_are_refused(tmp_path):
    path = recipe(tmp_path, '["mass"]')
    with pytest.raises(BadInputs, match="1 labels; the module returns 3 numbers a row"):
        export(str(path), Silent(), out=tmp_path, only=("onnx_fp32",))
