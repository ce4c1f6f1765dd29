"""ONNX programs, run by ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort

from shipway.runtime.errors import DeviceUnusable

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

SPIN_US = 50
"""How long a thread waits awake for its next layer. On 2 cores EfficientNet-Lite0 in int8 took
4.2 ms without, 3.3 ms with 20 µs and 3.1 ms with 100 µs or with no end."""


def open_session(
    path: Path, options: ort.SessionOptions, device: Literal["cpu", "cuda"], device_index: int = 0
) -> Any:
    """A session on that device. Raises DeviceUnusable where ONNX Runtime would take the CPU."""
    if device == "cpu":
        return ort.InferenceSession(path, options, providers=[CPU])
    ort.preload_dlls()  # CUDA's libraries come as packages, where the linker does not look
    # Products of fp32 numbers would be made in TF32, with 10 of their 23 bits.
    on_gpu = (CUDA, {"device_id": str(device_index), "use_tf32": "0"})
    session = ort.InferenceSession(path, options, providers=[on_gpu, CPU])  # shapes on the CPU
    if CUDA not in session.get_providers():
        raise DeviceUnusable(
            f"ONNX Runtime {ort.__version__} cannot use the GPU {device_index}; what it printed "
            "says why. Its package must be onnxruntime-gpu, for the CUDA that is installed."
        )
    return session


class OnnxRuntimeProgram:
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
        outputs: list[np.ndarray] = self._session.run(
            None, dict(zip(self._input_names, inputs, strict=True))
        )
        return outputs
