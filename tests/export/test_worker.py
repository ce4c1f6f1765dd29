"""What the child process says of an error."""

import shutil

import numpy as np
import pytest

from shipway.export import worker
from shipway.export.techniques import TECHNIQUES
from shipway.export.techniques.base import Unavailable
from shipway.recipe import Rows
from tests.conftest import DATA
from tests.export.workbench import Workbench


def test_a_skipped_technique_says_why_without_a_traceback():
    assert worker._reason(Unavailable("no compiler")) == "skipped: no compiler"
    assert shutil.which("g++"), "the compiled format is tried in these tests"


DEFORMABLE = """
class Deformable(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 1, 1, 1))

    def forward(self, x):
        import torchvision

        offset = torch.zeros(x.shape[0], 2, 5, 1)
        image = x[:, None, :, None]
        return torchvision.ops.deform_conv2d(image, offset, self.weight)[..., 0].mean(2)


recipe ="""


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Workbench:
    """A module that calls an operator of torchvision."""
    folder = tmp_path_factory.mktemp("operators")
    text = (DATA / "tiny_table_recipe.py").read_text()
    text = text.replace("Table()", "Deformable()").replace("module=Table", "module=Deformable")
    text = text.replace("tiny-table-", "deformable-").replace('"blue"', "").replace("top_k=3", "")
    recipe = folder / "operators_recipe.py"
    recipe.write_text(text.replace("recipe =", DEFORMABLE).replace("    ,\n", ""))
    return Workbench(folder, recipe)


def test_a_script_with_operators_that_a_worker_lacks_is_refused_with_the_reason(bench):
    verdict = bench.attempt("torchscript").verdict
    assert verdict == (
        "a worker cannot open it, because it needs something that only the recipe imports: "
        "RuntimeError: Unknown builtin op: torchvision::deform_conv2d."
    )
    assert not (bench.job.programs / "torchscript.pt").exists()


def test_rows_are_read_as_they_were_written(tmp_path):
    assignment = worker.Assignment(
        recipe="r", weights=None, folder=tmp_path, threads=1, log=tmp_path / "log"
    )
    arrays = (np.arange(6).reshape(3, 2), np.ones((3, 1)))
    rows = Rows(arrays, targets=np.array([0, 1, 2]), groups=np.array([4, 4, 9]))
    assignment.write_rows("evaluation", rows)
    assignment.write_rows("calibration", Rows(rows.arrays[:1]))
    back = assignment.read_rows("evaluation")
    assert all(map(np.array_equal, back.arrays, rows.arrays))
    assert np.array_equal(back.targets, rows.targets)
    assert np.array_equal(back.groups, rows.groups)
    other = assignment.read_rows("calibration")
    assert (other.targets, other.groups) == (None, None)


def test_a_refused_candidate_says_what_it_would_have_been():
    candidate = worker.refused(TECHNIQUES.get("onnx_int8"), "its process crashed")
    assert (candidate.passed, candidate.verdict) == (False, "its process crashed")
    assert (candidate.format, candidate.runtime, candidate.precision) == (
        "onnx",
        "onnxruntime",
        "int8",
    )
