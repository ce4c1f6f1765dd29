"""What ONNX Runtime's profile says of the kernels that ran."""

import numpy as np
import pytest

from shipway.artifact.manifest import Program as Described
from shipway.runtime.backends import BACKENDS
from shipway.runtime.backends.base import ProgramFile
from shipway.runtime.backends.onnxruntime import OnnxRuntimeProgram, read_onnx_profile
from shipway.runtime.backends.packages import installed_exactly
from shipway.runtime.host import has_cuda

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def node(operator: str, provider: str, *types: str) -> dict[str, object]:
    return {
        "cat": "Node",
        "name": "/a/b_kernel_time",
        "args": {
            "op_name": operator,
            "provider": provider,
            "input_type_shape": [{each: [1, 8, 4, 4]} for each in types],
        },
    }


@pytest.mark.parametrize(
    ("event", "device", "ran"),
    [
        (node("Conv", CUDA, "float16", "float16"), "cuda", {"fp16": 1}),
        (node("FusedConv", CUDA, "float", "float"), "cuda", {"fp32": 1}),
        (node("Conv", CUDA, "bfloat16", "bfloat16"), "cuda", {"bf16": 1}),
        (node("Conv", CPU, "float16", "float16"), "cuda", {"fp16 on the CPU": 1}),
        (node("QLinearConv", CPU, "uint8", "int8"), "cuda", {"int8 on the CPU": 1}),
        (node("QLinearConv", CPU, "uint8", "int8"), "cpu", {"int8": 1}),
        (node("Conv", CPU, "float", "float"), "cpu", {"fp32": 1}),
        (node("Shape", CPU, "float16"), "cuda", {}),
        ({"cat": "Session", "name": "model_run"}, "cuda", {}),
    ],
)
def test_onnx_runtimes_profile_is_counted_by_type_and_by_where_it_ran(event, device, ran):
    assert read_onnx_profile([event], device).ran == ran


@pytest.fixture
def file(tiny_table) -> ProgramFile:
    path = tiny_table.program_path("onnx_fp32")
    return ProgramFile(path=path, format="onnx", precision="fp32")


def test_outputs_are_those_of_the_samples(tiny_table, file):
    rows = np.load(tiny_table.path / "samples/features.npy")
    (logits,) = BACKENDS.get("onnxruntime").open(file, threads=1).run([rows])
    assert logits == pytest.approx(np.load(tiny_table.path / "samples/logits.npy"), abs=1e-5)


def test_a_run_is_read_from_the_runtimes_own_profile(file):
    backend = BACKENDS.get("onnxruntime")
    program = backend.open(file, threads=1)
    kernels = backend.kernels(file, program, [np.zeros((2, 5), "float32")], ["features"])
    assert kernels is not None and kernels.source == "ONNX Runtime's profile"
    assert kernels.ran == {"fp32": 2}


def test_inputs_that_lack_one_are_refused_before_the_run(file):
    with pytest.raises(ValueError):
        OnnxRuntimeProgram(file.path, threads=1).run([])


@pytest.mark.skipif(
    has_cuda() or installed_exactly("onnxruntime-gpu") is not None, reason="needs a host without"
)
def test_a_program_for_a_gpu_says_which_package_is_missing(tiny_table):
    described: Described = tiny_table.manifest.programs["onnx_fp32"]
    backend = BACKENDS.get("onnxruntime")
    assert backend.unsupported_reason(described) is None
    reason = backend.unsupported_reason(described.model_copy(update={"device": "cuda"}))
    assert reason is not None and "onnxruntime-gpu" in reason


def test_a_node_that_a_gpu_leaves_to_the_cpu_is_counted_by_itself():
    event = {
        "cat": "Node",
        "name": "a_kernel_time",
        "args": {
            "op_name": "Conv",
            "provider": "CPUExecutionProvider",
            "input_type_shape": [{"float": [1, 3, 8, 8]}],
        },
    }
    assert read_onnx_profile([event], "cuda").ran == {"fp32 on the CPU": 1}
    assert read_onnx_profile([event], "cpu").ran == {"fp32": 1}
