"""ONNX on a GPU, run by ONNX Runtime's CUDA provider, in fp32 and in fp16."""

from pathlib import Path

import onnx

from shipway.export.techniques import register
from shipway.export.techniques.base import Job, Technique, Unavailable, require_program
from shipway.export.techniques.cuda import require_cuda_in_onnx_runtime
from shipway.export.techniques.onnx_fp32 import TECHNIQUE as FP32


def build_fp32(job: Job, path: Path) -> None:
    """Writes nothing: the program is the file of `onnx_fp32`."""
    require_cuda_in_onnx_runtime()
    if not path.exists():
        raise Unavailable(f"it runs the file of {FP32.name}, which is missing")


def build_fp16(job: Job, path: Path) -> None:
    """Writes the fp32 program converted to fp16."""
    require_cuda_in_onnx_runtime()
    onnx.save(in_fp16(onnx.load(require_program(job, FP32))), path)


def in_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in fp16, from its first heavy operation on; its outputs stay float32.

    The normalisation of pixels stays in fp32, and so do softmax and pooling, whose sums lose the
    most precision.
    """
    # onnxruntime.transformers imports much that only this conversion needs
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    constants = {constant.name for constant in model.graph.initializer}
    for value in [info for info in model.graph.value_info if info.name in constants]:
        model.graph.value_info.remove(value)  # the converter would cast them as activations
    converted: onnx.ModelProto = convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, "Softmax", "ReduceMean", "ReduceSum"],
        node_block_list=[node.name for node in _before_heavy(model)],
    )
    return converted


_HEAVY = ("Conv", "MatMul", "Gemm")


def _before_heavy(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that prepare the inputs: no heavy operation comes before them."""
    computed = {name for node in model.graph.node for name in node.output}
    prepared: set[str] = set()
    nodes = []
    for node in model.graph.node:
        sources = {name for name in node.input if name in computed}
        if node.op_type not in _HEAVY and sources <= prepared:
            prepared.update(node.output)
            nodes.append(node)
    return nodes


register(
    Technique(
        order=110,
        name="onnx_cuda_fp32",
        file=FP32.file,
        runs=FP32.name,
        format="onnx",
        runtime="onnxruntime",
        device="cuda",
        build=build_fp32,
    ),
    Technique(
        order=110,
        name="onnx_cuda_fp16",
        file="onnx_cuda_fp16.onnx",
        format="onnx",
        runtime="onnxruntime",
        device="cuda",
        precision="fp16",
        build=build_fp16,
    ),
)
