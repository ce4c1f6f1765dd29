"""Every technique there is, in the order in which they are tried."""

from export import aot_inductor, onnx_fp32, onnx_int8, openvino_runtime, torch_export, torchscript
from export.technique import Technique

TECHNIQUES: dict[str, Technique] = {
    technique.name: technique
    for module in (torchscript, torch_export, aot_inductor, onnx_fp32, onnx_int8, openvino_runtime)
    for technique in module.TECHNIQUES
}
