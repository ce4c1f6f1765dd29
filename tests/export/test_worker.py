"""What the child process says of an error."""

import shutil

import pytest

from shipway.export import worker
from shipway.export.techniques import TECHNIQUES
from shipway.export.techniques.base import Unavailable
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


def test_a_refused_candidate_says_what_it_would_have_been():
    candidate = worker.refused(TECHNIQUES.get("onnx_int8"), "its process crashed")
    assert (candidate.passed, candidate.verdict) == (False, "its process crashed")
    assert (candidate.format, candidate.runtime, candidate.precision) == (
        "onnx",
        "onnxruntime",
        "int8",
    )
