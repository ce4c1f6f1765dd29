"""Every technique there is, in the order in which they are tried."""

from export import aot_inductor, onnx_fp32, onnx_int8, torch_export, torchscript
from export.technique import Technique

TECHNIQUES: dict[str, Technique] = {
    each.TECHNIQUE.name: each.TECHNIQUE
    for each in (torchscript, torch_export, aot_inductor, onnx_fp32, onnx_int8)
}
