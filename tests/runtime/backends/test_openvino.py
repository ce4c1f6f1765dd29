import numpy as np
import pytest

from shipway.runtime.backends import BACKENDS
from shipway.runtime.backends.base import ProgramFile


@pytest.fixture
def opened(tiny_table):
    file = ProgramFile(path=tiny_table.program_path("onnx_fp32"), format="onnx", precision="fp32")
    return file, BACKENDS.get("openvino").open(file, threads=1)


def test_the_file_that_onnx_runtime_runs_gives_the_same_outputs(tiny_table, opened):
    _, program = opened
    rows = np.load(tiny_table.path / "samples/features.npy")
    (logits,) = program.run([rows])
    assert logits == pytest.approx(np.load(tiny_table.path / "samples/logits.npy"), abs=1e-5)


def test_outputs_stay_as_they_are_when_the_next_batch_runs(opened):
    _, program = opened
    (first,) = program.run([np.ones((2, 5), "float32")])
    kept = first.copy()
    program.run([np.full((2, 5), 9, "float32")])
    assert np.array_equal(first, kept)


def test_the_execution_graph_tells_the_precision(opened):
    file, program = opened
    batch = [np.zeros((2, 5), "float32")]
    kernels = BACKENDS.get("openvino").kernels(file, program, batch, ["features"])
    assert kernels is not None and kernels.ran == {"fp32": 2}
