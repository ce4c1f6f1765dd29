"""Every technique there is, in the order in which they are tried."""

from export import (
    aot_inductor,
    aot_inductor_cuda,
    onnx_cuda,
    onnx_dynamic_int8,
    onnx_fp32,
    onnx_int8,
    onnx_mixed_int8,
    openvino_runtime,
    pt2e_int8,
    torch_export,
    torchao_int8,
    torchscript,
)
from export.technique import Technique

TECHNIQUES: dict[str, Technique] = {
    technique.name: technique
    for module in (
        torchscript,
        torch_export,
        aot_inductor,
        pt2e_int8,
        torchao_int8,
        onnx_fp32,
        onnx_int8,
        onnx_mixed_int8,
        onnx_dynamic_int8,
        openvino_runtime,
        onnx_cuda,
        aot_inductor_cuda,
    )
    for technique in module.TECHNIQUES
}
