"""AOTInductor for a GPU, in fp16 and bf16; the runtime replays it as a CUDA graph."""

import copy
from collections.abc import Callable
from pathlib import Path

import torch

from export.aot_inductor import Autocast
from export.cuda import require_cuda
from export.technique import Job, Technique
from export.torch_export import exported
from shipway.artifact.manifest import Precision, Requirements

_DTYPES: dict[Precision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}


def _building(precision: Precision) -> Callable[[Job, Path], None]:
    def build(job: Job, path: Path) -> None:
        require_cuda()
        module = Autocast(copy.deepcopy(job.module), "cuda", _DTYPES[precision]).cuda()
        program = exported(job, module, "cuda")
        with torch.no_grad():
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))

    return build


def requires() -> Requirements:
    return Requirements(packages={"torch": torch.__version__.partition("+")[0]})


def _technique(precision: Precision) -> Technique:
    return Technique(
        name=f"aot_inductor_cuda_{precision}",
        file=f"aot_inductor_cuda_{precision}.pt2",
        format="aot_inductor",
        runtime="torch",
        device="cuda",
        precision=precision,
        build=_building(precision),
        requires=requires,
    )


TECHNIQUES = (_technique("fp16"), _technique("bf16"))
