"""The ONNX programs on a GPU, by ONNX Runtime's CUDA provider: in fp32 and in fp16."""

from pathlib import Path

import onnx

from shipway.export.techniques import register
from shipway.export.techniques.base import Job, Technique, Unavailable
from shipway.export.techniques.cuda import require_cuda_in_onnx_runtime
from shipway.export.techniques.onnx_fp32 import TECHNIQUE as FP32


def build_fp32(job: Job, path: Path) -> None:
    require_cuda_in_onnx_runtime()
    if not path.exists():
        raise Unavailable(f"it runs the file of {FP32.name}, which is not there")


def build_fp16(job: Job, path: Path) -> None:
    require_cuda_in_onnx_runtime()
    source = job.programs / FP32.file
    if not source.exists():
        raise Unavailable(f"it is made from {FP32.name}, which is not there")
    onnx.save(in_fp16(onnx.load(source)), path)


def in_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in fp16 between its first heavy operation and its float32 outputs.

    Casting and normalising pixels stays in fp32, and so do softmax and the means of pooling, whose
    sums lose the most.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    constants = {each.name for each in model.graph.initializer}
    for value in [each for each in model.graph.value_info if each.name in constants]:
        model.graph.value_info.remove(value)  # taken for activations, they would be cast
    converted: onnx.ModelProto = convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, "Softmax", "ReduceMean", "ReduceSum"],
        node_block_list=[node.name for node in _before_heavy(model)],
    )
    return converted


_HEAVY = ("Conv", "MatMul", "Gemm")


def _before_heavy(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that only other such nodes and the inputs lead to: what prepares the inputs."""
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
