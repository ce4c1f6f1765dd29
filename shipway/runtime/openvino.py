"""ONNX programs, run by OpenVINO."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino as ov

from shipway.artifact.manifest import Precision


class OpenVinoProgram:
    def __init__(self, path: Path, *, precision: Precision, threads: int) -> None:
        self.compiled = ov.Core().compile_model(
            path,
            "CPU",
            {
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
                # Each worker would pin its threads to the same first cores.
                "ENABLE_CPU_PINNING": False,
                # Left alone, it computes fp32 files in bf16 where the processor can.
                "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            },
        )
        self._request = self.compiled.create_infer_request()

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        outputs = self._request.infer(list(inputs), share_inputs=True)
        # Copied: the request writes its next outputs to the same memory.
        return [np.array(outputs[index]) for index in range(len(self.compiled.outputs))]
