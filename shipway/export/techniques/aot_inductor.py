"""AOTInductor: the exported graph, compiled to native code for this processor, in fp32 and bf16."""

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
    """Writes a `.pt2` package that computes in fp32."""
    compile_package(exported(job), path)


def require_bf16() -> None:
    """Raises Unavailable on a processor that can multiply bf16 in software only."""
    if BF16_FLAG not in cpu_flags():
        raise Unavailable(f"this processor has no bf16 arithmetic ({BF16_FLAG})")


def build_bf16(job: Job, path: Path) -> None:
    """Writes a `.pt2` package whose convolutions and matrix products compute in bf16."""
    require_bf16()
    compile_package(exported(job, Autocast(job.module, "cpu", torch.bfloat16)), path)


class Autocast(nn.Module):
    """A module under autocast: heavy layers in a lower precision, outputs in the module's dtypes.

    The normalisation before the first layer stays in fp32, because autocast only casts the inputs
    of heavy layers.
    """

    def __init__(self, module: nn.Module, device: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = module
        self._device = device
        self._dtype = dtype

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The module's own inputs to its outputs, those in the lower precision as float32."""
        with torch.autocast(self._device, dtype=self._dtype):
            outputs: Tensor | tuple[Tensor, ...] = self.module(*inputs)
        if isinstance(outputs, Tensor):
            return self._widened(outputs)
        return tuple(self._widened(output) for output in outputs)

    def _widened(self, output: Tensor) -> Tensor:
        return output.float() if output.dtype == self._dtype else output


def compile_package(
    program: torch.export.ExportedProgram, path: Path, *, freezing: bool = True
) -> None:
    """Compiles the graph into the package `path`. Raises Unavailable without a C++ compiler."""
    if shutil.which("g++") is None and shutil.which("c++") is None:
        raise Unavailable("this host has no C++ compiler (g++)")
    with torch.no_grad():
        torch._inductor.aoti_compile_and_package(
            program,
            package_path=str(path),
            # Freezing folds constants into the code. Without it int8 graphs compute in fp32
            # (github.com/pytorch/ao, issue 4566).
            inductor_configs={"freezing": freezing},
        )


def requires() -> Requirements:
    """The machine, its vector instructions, and the torch version of this host."""
    return Requirements(
        machine=platform.machine(),
        # Compiled with -march=native: the code may use any vector instruction of this host.
        cpu_flags=tuple(sorted(flag for flag in cpu_flags() if flag.startswith(("avx", "fma")))),
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
