"""TorchScript, torch.export and AOTInductor programs, run by torch on the CPU or on a GPU."""

import os
import re
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from shipway.artifact.certificate import Kernels
from shipway.artifact.manifest import Program as Described
from shipway.runtime.backends import BACKENDS
from shipway.runtime.backends.base import PRECISION_OF, Program, ProgramFile

_INT8_WEIGHTS = re.compile(r"^.*\baoti_torch_cpu__weight_int8pack_mm\(", re.MULTILINE)
_ONEDNN_HEAVY = ("convolution", "inner_product", "matmul", "gemm_api")

# The names of kernels on NVIDIA GPUs: cuBLAS, cuDNN and CUTLASS, those of torch, and those that
# Inductor has Triton compile. What only changes layouts, or adds up parts of a product, is not in
# here, and neither are attention's products of two activations.
_CUDA_HEAVY = re.compile(
    r"gemm|gemv|nvjet|fprop|dgrad|scudnn|\dcudnn_|conv2d|conv3d|convolve|conv_depthwise|triton_tem_"
)
_CUDA_NOT_HEAVY = re.compile(r"flash|fmha|sdpa|attention|triton_(?!tem_)", re.IGNORECASE)
# The first that is found counts. Kernels named by three letters tell of both factors, the sums and
# the results: hss, tst. Half factors with float sums are common; the factors' type is what counts.
_CUDA_PRECISIONS = (
    ("fp8", re.compile(r"e4m3|e5m2|nvjet_(?:sm\d+_)?q")),
    ("int8", re.compile(r"i8i8|int8|igemm|imma|(?<![a-z])i\d{4,}|_s8_")),
    ("bf16", re.compile(r"bf16|bfloat16|BFloat16|nvjet_(?:sm\d+_)?t")),
    (
        "fp16",
        re.compile(
            r"(?<!b)f16(?!\d)|fp16|__half|c10::Half|half_t|(?<![a-z])h\d+(?:gemm|cudnn)"
            r"|hgemm|nvjet_(?:sm\d+_)?h"
        ),
    ),
    # On tensor cores, fp32 is rounded to TF32's 10 bits.
    ("tf32", re.compile(r"tf32|tensorop_s1688|nvjet_(?:sm\d+_)?s")),
    ("fp32", re.compile(r"f32f32|sgemm|scudnn|\bfloat\b")),
)


class Torch:
    """PyTorch."""

    package = "torch"
    formats: tuple[str, ...] = ("torchscript", "torch_export", "aot_inductor")
    prepares = False
    warms: Literal["all", "largest"] = "all"
    uses_torch = True

    def open(self, program: ProgramFile, *, threads: int, device_index: int = 0) -> Program:
        """Opens the file with the program of its format and device."""
        # torch takes seconds to import, and commands that only describe a program do without it.
        from shipway.runtime.backends import torch_programs

        if program.format == "aot_inductor" and program.device == "cuda":
            # torch takes seconds to import
            from shipway.runtime.backends.torch_cuda import AotInductorCudaProgram

            return AotInductorCudaProgram(program.path, threads=threads, device_index=device_index)
        kind = {
            "torchscript": torch_programs.TorchScriptProgram,
            "torch_export": torch_programs.TorchExportProgram,
            "aot_inductor": torch_programs.AotInductorProgram,
        }[program.format]
        return kind(program.path, threads=threads)

    def unsupported_reason(self, program: Described) -> str | None:
        """None: what torch needs is in the manifest."""
        return None

    def kernels(
        self,
        file: ProgramFile,
        opened: Program,
        batch: Sequence[np.ndarray],
        input_names: Sequence[str],
    ) -> Kernels | None:
        """None for fp32, whose products are not all in oneDNN's log."""
        if file.precision == "fp32":
            return None
        if file.device == "cuda":
            return of_cuda(lambda: opened.run(batch))
        compiled = file.path if file.format == "aot_inductor" else None
        return of_torch(lambda: opened.run(batch), compiled)


BACKENDS.register("torch")(Torch())


def of_torch(run: Callable[[], object], package: Path | None = None) -> Kernels:
    """From oneDNN's log of one run, and from the code of the package that AOTInductor compiled.

    Products that torch gives to other libraries are in neither.
    """
    import torch  # torch takes seconds to import

    mkldnn = torch.backends.mkldnn
    with tempfile.TemporaryFile("w+") as log:
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(log.fileno(), 1)  # oneDNN writes to the file descriptor, not to sys.stdout
        try:
            with mkldnn.verbose(mkldnn.VERBOSE_ON):
                run()
        finally:
            os.dup2(kept, 1)
            os.close(kept)
        log.seek(0)
        text = log.read()
    heavy = read_onednn_log(text)
    ran = Counter(precision for _, precision in heavy)
    operators = dict(Counter(kind for kind, _ in heavy))
    by_torch = read_compiled_code(package) if package is not None else {}
    if by_torch:
        ran["bf16"] += sum(by_torch.values())
        return Kernels(
            source="oneDNN's log and the compiled code",
            ran=dict(ran),
            operators=by_torch | operators,
        )
    return Kernels(source="oneDNN's log", ran=dict(ran), operators=operators)


def of_cuda(run: Callable[[], object]) -> Kernels:
    """From torch's profile of one run on a GPU, whose kernels say in their names what they do."""
    # torch takes seconds to import
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        run()
        torch.cuda.synchronize()
    names = [
        event.name
        for event in profiled.events() or ()
        if event.device_type == torch.autograd.DeviceType.CUDA
    ]
    heavy = read_cuda_kernels(names)
    return Kernels(
        source="torch's profiler",
        ran=dict(Counter(precision for _, precision in heavy)),
        operators=dict(Counter(name for name, _ in heavy)),
    )


def read_cuda_kernels(names: Iterable[str]) -> list[tuple[str, str]]:
    """Name and precision of each convolution and matrix product among a GPU's kernels."""
    ran: list[tuple[str, str]] = []
    for name in names:
        if not _CUDA_HEAVY.search(name) or _CUDA_NOT_HEAVY.search(name):
            continue
        found = (precision for precision, marks in _CUDA_PRECISIONS if marks.search(name))
        ran.append((name, next(found, f"unread: {name[:40]}")))
    return ran


def read_compiled_code(package: Path) -> dict[str, int]:
    """How often a package calls torch's own product of bf16 with int8 weights.

    Each call is written out in the code and made once a run.
    """
    with zipfile.ZipFile(package) as archive:
        code = [archive.read(each).decode() for each in archive.namelist() if each.endswith(".cpp")]
    called = max((len(_INT8_WEIGHTS.findall(each)) for each in code), default=0)
    return {"_weight_int8pack_mm": called} if called else {}


def read_onednn_log(text: str) -> list[tuple[str, str]]:
    """Kind and precision of each convolution and matrix product with weights in a log."""
    ran: list[tuple[str, str]] = []
    for line in text.splitlines():
        if ",exec,cpu," not in line:
            continue
        fields = line.split(",exec,cpu,", 1)[1].split(",")
        kind, tensors, shape = fields[0], ",".join(fields[3:5]), fields[-2]
        if kind not in _ONEDNN_HEAVY:
            continue
        # Products of two activations come in stacks: 8x12x128x32:8x12x32x128.
        if kind in ("matmul", "gemm_api") and shape.partition(":")[0].count("x") > 1:
            continue
        found = re.search(r"src(?::|_)(\w+?)(?::|\s)", line)
        precision = PRECISION_OF.get(found[1], found[1]) if found else f"unread: {tensors[:40]}"
        ran.append((kind, precision))
    return ran
