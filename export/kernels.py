"""Which arithmetic a program really does, read from the runtime that runs it.

A program called int8 can hold int8 weights and multiply in fp32 all the same. Heavy operations are
the convolutions and the matrix products with trained weights. Attention's products of two
activations have none and mostly stay as they are; where they are quantized, they count as well.
"""

import json
import os
import re
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from export.batches import Arrays
from shipway.artifact.certificate import Kernels
from shipway.runtime.program import Program

SHARE_NEEDED = 0.9
"""Of the heavy operations, in the precision that the program claims."""

_ORT_INT8 = {
    "QLinearConv",
    "ConvInteger",
    "QGemm",
    "QLinearMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "MatMulNBits",
}
_ORT_PRODUCTS = {"MatMul", "FusedMatMul"}
_ORT_FLOAT = {"Conv", "FusedConv", "NhwcFusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
_ORT_TYPES = {"float16": "fp16", "bfloat16": "bf16"}
_INT8_WEIGHTS = re.compile(r"^.*\baoti_torch_cpu__weight_int8pack_mm\(", re.MULTILINE)
_ONEDNN_HEAVY = ("convolution", "inner_product", "matmul", "gemm_api")
_OPENVINO_HEAVY = {"Convolution", "FullyConnected", "Deconvolution"}
_PRECISION_OF = {
    "f32": "fp32",
    "bf16": "bf16",
    "f16": "fp16",
    "u8": "int8",
    "s8": "int8",
    "i8": "int8",
}

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


def why_not_what_it_claims(kernels: Kernels, precision: str) -> str | None:
    """The reason to refuse a program whose heavy operations ran in another precision, or None."""
    heavy = sum(kernels.ran.values())
    if not heavy:
        # A model may have none; what claims to have made them cheaper must show them.
        if precision == "fp32":
            return None
        return f"{kernels.source} shows no convolution or matrix product at all"
    if kernels.ran.get(precision, 0) >= SHARE_NEEDED * heavy:
        return None
    ran = ", ".join(f"{count} in {name}" for name, count in sorted(kernels.ran.items()))
    return (
        f"it is called {precision}, but of its {heavy} convolutions and matrix products {ran} "
        f"({kernels.source})"
    )


def of_onnx_runtime(
    path: Path, names: list[str], batch: Arrays, device: Literal["cpu", "cuda"] = "cpu"
) -> Kernels:
    """From ONNX Runtime's profile of one run."""
    import onnxruntime as ort

    from shipway.runtime.onnx_runtime import open_session

    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        options.log_severity_level = 3
        session = open_session(path, options, device)
        session.run(None, dict(zip(names, batch, strict=True)))
        events = json.loads(Path(session.end_profiling()).read_text())
    return read_onnx_profile(events, device)


def read_onnx_profile(
    events: Iterable[Mapping[str, Any]], device: Literal["cpu", "cuda"]
) -> Kernels:
    """Counts the nodes in a profile's events; what ran elsewhere than on `device` is told apart."""
    ran: Counter[str] = Counter()
    operators: Counter[str] = Counter()
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        operator = event["args"]["op_name"]
        operators[operator] += 1
        shapes = [shape for each in event["args"]["input_type_shape"] for shape in each.values()]
        # Weights are matrices, and packed ones are not listed; attention multiplies stacks.
        has_weights = operator not in _ORT_PRODUCTS or len(shapes) < 2 or len(shapes[1]) <= 2
        # A node that a GPU's provider does not know runs on the CPU, between two copies.
        elsewhere = device == "cuda" and event["args"]["provider"] == "CPUExecutionProvider"
        if operator in _ORT_INT8:
            precision = "int8"
        elif operator in _ORT_FLOAT and has_weights:
            types = {kind for each in event["args"]["input_type_shape"] for kind in each}
            precision = next((_ORT_TYPES[each] for each in _ORT_TYPES if each in types), "fp32")
        else:
            continue
        ran[f"{precision} on the CPU" if elsewhere else precision] += 1
    return Kernels(
        source="ONNX Runtime's profile", ran=dict(ran), operators=dict(operators.most_common())
    )


def of_openvino(program: Program) -> Kernels:
    """From the execution graph of a compiled model."""
    from shipway.runtime.openvino import OpenVinoProgram

    assert isinstance(program, OpenVinoProgram)
    ran: Counter[str] = Counter()
    operators: Counter[str] = Counter()
    for operation in program.compiled.get_runtime_model().get_ordered_ops():
        info = operation.get_rt_info()
        kind = str(info["layerType"].astype(str) if "layerType" in info else "")
        operators[kind] += 1
        if kind in _OPENVINO_HEAVY:
            precision = str(info["runtimePrecision"].astype(str))
            ran[_PRECISION_OF.get(precision, precision)] += 1
    return Kernels(
        source="OpenVINO's execution graph",
        ran=dict(ran),
        operators=dict(operators.most_common()),
    )


def of_torch(run: Callable[[], object], package: Path | None = None) -> Kernels:
    """From oneDNN's log of one run, and from the code of the package that AOTInductor compiled.

    Products that torch gives to other libraries are in neither.
    """
    import torch

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
        precision = _PRECISION_OF.get(found[1], found[1]) if found else f"unread: {tensors[:40]}"
        ran.append((kind, precision))
    return ran
