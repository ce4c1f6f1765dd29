"""AOTInductor: the exported graph compiled to native code for this processor, in fp32 and bf16."""

import platform
import shutil
from pathlib import Path

import torch
from torch import Tensor, nn

from shipway.artifact.manifest import Requirements
from shipway.export.techniques import register
from shipway.export.techniques.base import Job, Technique, Unavailable
from shipway.export.techniques.torch_export import exported
from shipway.runtime.host import cpu_flags

BF16_FLAG = "avx512_bf16"


def build_fp32(job: Job, path: Path) -> None:
    compile_package(exported(job), path)


def require_bf16() -> None:
    """Raises Unavailable on a processor that multiplies bf16 in software alone."""
    if BF16_FLAG not in cpu_flags():
        raise Unavailable(f"this processor has no bf16 arithmetic ({BF16_FLAG})")


def build_bf16(job: Job, path: Path) -> None:
    require_bf16()
    compile_package(exported(job, Autocast(job.module, "cpu", torch.bfloat16)), path)


class Autocast(nn.Module):
    """Convolutions and matrix products in a lower precision, the rest as autocast decides.

    The normalisation before the first layer stays in fp32, for autocast casts what heavy layers
    are given and nothing earlier. The outputs are float32.
    """

    def __init__(self, module: nn.Module, device: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = module
        self._device = device
        self._dtype = dtype

    def forward(self, *inputs: Tensor) -> Tensor:
        with torch.autocast(self._device, dtype=self._dtype):
            outputs: Tensor = self.module(*inputs)
        return outputs.float()


def compile_package(
    program: torch.export.ExportedProgram, path: Path, *, freezing: bool = True
) -> None:
    """Compiles to `path`; raises Unavailable without a compiler."""
    if shutil.which("g++") is None and shutil.which("c++") is None:
        raise Unavailable("no C++ compiler is here (g++)")
    with torch.no_grad():
        torch._inductor.aoti_compile_and_package(
            program,
            package_path=str(path),
            # Freezing folds the weights: it saves time here, and without it int8 graphs compute
            # in fp32 (github.com/pytorch/ao, issue 4566).
            inductor_configs={"freezing": freezing},
        )


def requires() -> Requirements:
    return Requirements(
        machine=platform.machine(),
        # Compiled with -march=native: whatever vector instructions are here may be in it.
        cpu_flags=tuple(sorted(each for each in cpu_flags() if each.startswith(("avx", "fma")))),
        packages={"torch": torch.__version__.partition("+")[0]},
    )


register(
    Technique(
        order=30,
        name="aot_inductor",
        file="aot_inductor.pt2",
        format="aot_inductor",
        runtime="torch",
        build=build_fp32,
        requires=requires,
    ),
    Technique(
        order=30,
        name="aot_inductor_bf16",
        file="aot_inductor_bf16.pt2",
        format="aot_inductor",
        runtime="torch",
        precision="bf16",
        build=build_bf16,
        requires=requires,
    ),
)
