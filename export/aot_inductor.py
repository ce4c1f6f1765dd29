"""AOTInductor: the exported graph compiled to native code for this processor."""

import platform
import shutil
from pathlib import Path

import torch

from export.technique import Job, Technique, Unavailable
from export.torch_export import exported
from shipway.artifact.manifest import Requirements
from shipway.runtime.host import cpu_flags


def build(job: Job, path: Path) -> None:
    if shutil.which("g++") is None and shutil.which("c++") is None:
        raise Unavailable("no C++ compiler is here (g++)")
    program = exported(job)
    with torch.no_grad():
        torch._inductor.aoti_compile_and_package(
            program,
            package_path=str(path),
            # Freezing folds the weights: it saves time here, and without it int8 graphs compute
            # in fp32 (github.com/pytorch/ao, issue 4566).
            inductor_configs={"freezing": True},
        )


def requires() -> Requirements:
    return Requirements(
        machine=platform.machine(),
        # Compiled with -march=native: whatever vector instructions are here may be in it.
        cpu_flags=tuple(sorted(each for each in cpu_flags() if each.startswith(("avx", "fma")))),
        packages={"torch": torch.__version__.partition("+")[0]},
    )


TECHNIQUE = Technique(
    name="aot_inductor",
    file="aot_inductor.pt2",
    format="aot_inductor",
    runtime="torch",
    build=build,
    requires=requires,
)
TECHNIQUES = (TECHNIQUE,)
