"""What ONNX Runtime's profile says of the kernels that ran."""

import pytest

from shipway.runtime.backends.onnxruntime import read_onnx_profile

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
