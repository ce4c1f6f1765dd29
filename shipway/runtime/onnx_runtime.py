"""ONNX programs, run by ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort

PROVIDERS = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],  # shapes are computed on the CPU
}


class OnnxRuntimeProgram:
    def __init__(self, path: Path, *, threads: int, device: Literal["cpu", "cuda"] = "cpu") -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin while idle take the cores from decoding and from the server.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = ort.InferenceSession(path, options, providers=PROVIDERS[device])
        self._input_names = [each.name for each in self._session.get_inputs()]

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        outputs: list[np.ndarray] = self._session.run(
            None, dict(zip(self._input_names, inputs, strict=True))
        )
        return outputs
