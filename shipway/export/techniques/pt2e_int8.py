"""PyTorch's own int8 (PT2E) for x86, compiled by AOTInductor: static and dynamic."""

from collections.abc import Callable
from pathlib import Path

import torch

from shipway.export.techniques import applicability, register
from shipway.export.techniques.aot_inductor import compile_package, requires
from shipway.export.techniques.base import Job, Technique, require_package
from shipway.export.techniques.onnx_int8 import CALIBRATION_BATCH
from shipway.export.techniques.torch_export import exported
from shipway.recipe import Axis
from shipway.runtime.batches import batches
from shipway.runtime.host import cpu_flags


def build(*, dynamic: bool) -> Callable[[Job, Path], None]:
    """Returns the build of the static or of the dynamic variant."""
    return lambda job, path: compile_package(quantized(job, dynamic=dynamic), path)


def quantized(job: Job, *, dynamic: bool) -> torch.export.ExportedProgram:
    """The calibrated graph, with quantizers around its convolutions and matrix products.

    The normalisation before the first of them stays in fp32.
    """
    require_package("torchao")
    # torchao is optional and takes seconds to import
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(
        x86.get_default_x86_inductor_quantization_config(
            is_dynamic=dynamic,
            # Without VNNI, products of 8-bit numbers saturate 16 bits; 7-bit ones do not.
            reduce_range=not {"avx512_vnni", "avx_vnni"} & cpu_flags(),
        )
    )
    rows = job.inputs[0].shape[0]
    most = rows.max if isinstance(rows, Axis) else rows
    with torch.no_grad():
        module = prepare_pt2e(_named_by_function(exported(job).module()), quantizer)
        for batch in batches(job.calibration.arrays, job.inputs, min(CALIBRATION_BATCH, most)):
            module(*map(torch.from_numpy, batch))
        return exported(job, convert_pt2e(module))


def _named_by_function(module: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Labels each operation with its function, in place, so that torchao's quantizer finds it.

    The quantizer finds layers by the class that they were written as. It silently skips subclasses
    of nn.Conv2d, such as those with TensorFlow's padding, and fails on a layer that is used twice,
    such as the activations of residual networks.
    """
    for node in module.graph.nodes:
        if function := _WRITTEN_AS.get(node.target):
            node.meta["source_fn_stack"] = [(node.name, function)]
    return module


_WRITTEN_AS = {
    torch.ops.aten.conv2d.default: torch.nn.functional.conv2d,
    torch.ops.aten.linear.default: torch.nn.functional.linear,
    torch.ops.aten.relu.default: torch.nn.functional.relu,
    torch.ops.aten.relu_.default: torch.nn.functional.relu,
    torch.ops.aten.hardtanh.default: torch.nn.functional.hardtanh,
    torch.ops.aten.hardtanh_.default: torch.nn.functional.hardtanh,
    torch.ops.aten.relu6.default: torch.nn.ReLU6,
    torch.ops.aten.relu6_.default: torch.nn.ReLU6,
    torch.ops.aten.silu.default: torch.nn.SiLU,
    torch.ops.aten.silu_.default: torch.nn.SiLU,
    torch.ops.aten.hardswish.default: torch.nn.Hardswish,
    torch.ops.aten.hardswish_.default: torch.nn.Hardswish,
    torch.ops.aten.add.Tensor: torch.add,
    torch.ops.aten.add_.Tensor: torch.add,
}


register(
    Technique(
        packages=("torchao",),
        order=40,
        name="pt2e_int8",
        file="pt2e_int8.pt2",
        format="aot_inductor",
        runtime="torch",
        precision="int8",
        quantization=(
            "static PT2E; uint8 activations (ranges from histograms), int8 weights per channel"
        ),
        unsupported_reason=applicability.convolutional,
        build=build(dynamic=False),
        requires=requires,
    ),
    Technique(
        packages=("torchao",),
        order=40,
        name="pt2e_dynamic_int8",
        file="pt2e_dynamic_int8.pt2",
        format="aot_inductor",
        runtime="torch",
        precision="int8",
        quantization="dynamic PT2E; uint8 activations (range of each run), int8 weights per "
        "channel",
        dynamic=True,
        unsupported_reason=applicability.linear,
        build=build(dynamic=True),
        requires=requires,
    ),
)
