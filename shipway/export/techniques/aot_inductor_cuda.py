"""AOTInductor for a GPU, in fp16 and bf16; the runtime replays it as a CUDA graph."""

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from shipway.artifact.manifest import Precision, Requirements
from shipway.export.techniques import register
from shipway.export.techniques.aot_inductor import Autocast
from shipway.export.techniques.base import CONVOLUTIONS, Job, Technique
from shipway.export.techniques.cuda import require_cuda
from shipway.export.techniques.torch_export import exported

_DTYPES: dict[Precision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}


def _building(precision: Precision) -> Callable[[Job, Path], None]:
    def build(job: Job, path: Path) -> None:
        require_cuda()
        dtype = _DTYPES[precision]
        module = Autocast(with_heavy_weights_in(dtype, job.module), "cuda", dtype).cuda()
        program = exported(job, module, "cuda")
        with torch.no_grad():
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))

    return build


def with_heavy_weights_in(dtype: torch.dtype, module: nn.Module) -> nn.Module:
    """A copy whose convolutions and linear layers hold their weights in `dtype`.

    Otherwise autocast would cast them in every run. Filters are stored channels last, as tensor
    cores read them.
    """
    module = copy.deepcopy(module)
    for layer in module.modules():
        if isinstance(layer, (*CONVOLUTIONS, nn.Linear)):
            layer.to(dtype)
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    return module


def requires() -> Requirements:
    """The torch version and the compute capability of this host's GPU."""
    return Requirements(
        packages={"torch": torch.__version__.partition("+")[0]},
        # The kernels are machine code for this kind of GPU.
        compute_capability="{}.{}".format(*torch.cuda.get_device_capability()),
    )


def _technique(precision: Precision) -> Technique:
    return Technique(
        order=120,
        name=f"aot_inductor_cuda_{precision}",
        file=f"aot_inductor_cuda_{precision}.pt2",
        format="aot_inductor",
        runtime="torch",
        device="cuda",
        precision=precision,
        build=_building(precision),
        requires=requires,
    )


register(_technique("fp16"), _technique("bf16"))
