"""ONNX programs, run by ONNX Runtime."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort

from shipway.artifact.certificate import Kernels
from shipway.artifact.manifest import Program as Described
from shipway.runtime.backends import BACKENDS
from shipway.runtime.backends.base import Program, ProgramFile
from shipway.runtime.backends.errors import DeviceUnusable
from shipway.runtime.backends.packages import installed_exactly

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

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
SPIN_US = 50
"""How long a thread waits awake for its next layer. On 2 cores EfficientNet-Lite0 in int8 took
4.2 ms without, 3.3 ms with 20 µs and 3.1 ms with 100 µs or with no end."""


_QUANTIZES_MORE = "WeightBiasQuantization"
"""An optimizer that quantizes the weights of a convolution or product between two that are int8, by
one scale for all channels: also of one that was left in fp32 because int8 costs it most."""


def open_session(
    path: Path, options: ort.SessionOptions, device: Literal["cpu", "cuda"], device_index: int = 0
) -> Any:
    """A session on that device. Raises DeviceUnusable where ONNX Runtime would take the CPU."""
    opened = partial(ort.InferenceSession, path, options, disabled_optimizers=[_QUANTIZES_MORE])
    if device == "cpu":
        return opened(providers=[CPU])
    ort.preload_dlls()  # CUDA's libraries come as packages, where the linker does not look
    # Products of fp32 numbers would be made in TF32, with 10 of their 23 bits.
    on_gpu = (CUDA, {"device_id": str(device_index), "use_tf32": "0"})
    session = opened(providers=[on_gpu, CPU])  # shapes on the CPU
    if CUDA not in session.get_providers():
        raise DeviceUnusable(
            f"ONNX Runtime {ort.__version__} cannot use GPU {device_index}. See its log "
            "messages for the cause. Install the onnxruntime-gpu version that matches the "
            "installed CUDA."
        )
    return session


class OnnxRuntimeProgram:
    """A session of ONNX Runtime."""

    def __init__(
        self,
        path: Path,
        *,
        threads: int,
        device: Literal["cpu", "cuda"] = "cpu",
        device_index: int = 0,
    ) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin while idle take the cores from decoding and from the server; threads
        # that sleep between two layers wake up late.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
        options.log_severity_level = 3
        self._session = open_session(path, options, device, device_index)
        self._input_names = [each.name for each in self._session.get_inputs()]

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs of one batch, in the file's order."""
        outputs: list[np.ndarray] = self._session.run(
            None, dict(zip(self._input_names, inputs, strict=True))
        )
        return outputs


class OnnxRuntime:
    """ONNX Runtime, on the CPU and through its CUDA provider."""

    package = "onnxruntime"
    formats: tuple[str, ...] = ("onnx",)
    prepares = False
    warms: Literal["all", "largest"] = "largest"
    uses_torch = False

    def open(self, program: ProgramFile, *, threads: int, device_index: int = 0) -> Program:
        """A session with `threads` threads, on the CPU or on the GPU `device_index`."""
        return OnnxRuntimeProgram(
            program.path, threads=threads, device=program.device, device_index=device_index
        )

    def unsupported_reason(self, program: Described) -> str | None:
        """A program for a GPU needs the package onnxruntime-gpu."""
        if program.device == "cuda" and not installed_exactly("onnxruntime-gpu"):
            return "the installed ONNX Runtime has no CUDA support (install onnxruntime-gpu)"
        return None

    def kernels(
        self,
        file: ProgramFile,
        opened: Program,
        batch: Sequence[np.ndarray],
        input_names: Sequence[str],
    ) -> Kernels | None:
        """Runs `batch` in a session of its own, with profiling."""
        return profiled_kernels(file.path, input_names, batch, file.device)


BACKENDS.register("onnxruntime")(OnnxRuntime())


def profiled_kernels(
    path: Path,
    names: Sequence[str],
    batch: Sequence[np.ndarray],
    device: Literal["cpu", "cuda"] = "cpu",
) -> Kernels:
    """From ONNX Runtime's profile of one run."""
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
