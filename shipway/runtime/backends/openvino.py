"""ONNX programs, run by OpenVINO."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from shipway.artifact.certificate import Kernels
from shipway.artifact.manifest import Precision
from shipway.artifact.manifest import Program as Described
from shipway.runtime.backends import BACKENDS
from shipway.runtime.backends.base import PRECISION_OF, Program, ProgramFile

HEAVY = {"Convolution", "FullyConnected", "Deconvolution"}


class OpenVinoProgram:
    """A compiled model and its one inference request."""

    def __init__(self, path: Path, *, precision: Precision, threads: int) -> None:
        # openvino is an extra
        import openvino as ov

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
        """The outputs of one batch, in the model's order, in memory of their own."""
        outputs = self._request.infer(list(inputs), share_inputs=True)
        # Copied: the request writes its next outputs to the same memory.
        return [np.array(outputs[index]) for index in range(len(self.compiled.outputs))]


class OpenVino:
    """OpenVINO on the CPU."""

    package = "openvino"
    formats: tuple[str, ...] = ("onnx",)
    prepares = True  # it keeps 12 MB for each batch size of EfficientNet-Lite0, on average
    warms: Literal["all", "largest"] = "all"
    uses_torch = False

    def open(self, program: ProgramFile, *, threads: int, device_index: int = 0) -> Program:
        """Compiles the model for this processor."""
        return OpenVinoProgram(program.path, precision=program.precision, threads=threads)

    def unsupported_reason(self, program: Described) -> str | None:
        """None: what OpenVINO needs is in the manifest."""
        return None

    def kernels(
        self,
        file: ProgramFile,
        opened: Program,
        batch: Sequence[np.ndarray],
        input_names: Sequence[str],
    ) -> Kernels | None:
        """Read from the compiled model. `batch` is not run."""
        assert isinstance(opened, OpenVinoProgram)
        return graph_kernels(opened)


BACKENDS.register("openvino")(OpenVino())


def graph_kernels(program: OpenVinoProgram) -> Kernels:
    """From the execution graph of a compiled model."""
    ran: Counter[str] = Counter()
    operators: Counter[str] = Counter()
    for operation in program.compiled.get_runtime_model().get_ordered_ops():
        info = operation.get_rt_info()
        kind = str(info["layerType"].astype(str) if "layerType" in info else "")
        operators[kind] += 1
        if kind in HEAVY:
            precision = str(info["runtimePrecision"].astype(str))
            ran[PRECISION_OF.get(precision, precision)] += 1
    return Kernels(
        source="OpenVINO's execution graph",
        ran=dict(ran),
        operators=dict(operators.most_common()),
    )
