"""One interface over every exported format; the same code runs in verification and in serving."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from shipway.artifact.bundle import Artifact
from shipway.artifact.manifest import Format, Precision, Runtime
from shipway.runtime.errors import BrokenProgram, RuntimeProblem

Outputs = list[np.ndarray]
"""One array for each output, its first axis the rows."""


class Program(Protocol):
    """An exported program, open and ready. Not safe to call from two threads at once."""

    def run(self, inputs: Sequence[np.ndarray]) -> Outputs:
        """The outputs for one batch, in the manifest's order; dtypes and shapes as it says."""
        ...


@runtime_checkable
class Overlapping(Program, Protocol):
    """A program that copies one batch in and another one out while it computes a third."""

    host_to_device_ms: float
    """How long it took to copy in the batch whose outputs came last."""

    def run_all(self, batches: Iterable[Sequence[np.ndarray]]) -> Iterator[Outputs]:
        """The outputs of each batch, in order; the next batches are asked for before they come.

        A batch's arrays may be written to again once the next batch is asked for, those from
        `zeros` only once its outputs have come.
        """
        ...

    def zeros(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """An array in memory that batches are copied from soonest."""
        ...


def open_file(
    path: Path,
    format: Format,
    runtime: Runtime,
    precision: Precision,
    *,
    threads: int,
    device: Literal["cpu", "cuda"] = "cpu",
    device_index: int = 0,
) -> Program:
    """Opens a program that has already been checked. `threads` are those of one run.

    `device_index` is that of the GPU among those this process sees. Raises DeviceUnusable.
    """
    # Imported here: a worker that serves ONNX should not pay for the other runtimes.
    match format, runtime:
        case "onnx", "openvino":
            from shipway.runtime.openvino import OpenVinoProgram

            return OpenVinoProgram(path, precision=precision, threads=threads)
        case "onnx", _:
            from shipway.runtime.onnx_runtime import OnnxRuntimeProgram

            return OnnxRuntimeProgram(
                path, threads=threads, device=device, device_index=device_index
            )
        case "torchscript", _:
            from shipway.runtime.torch_programs import TorchScriptProgram

            return TorchScriptProgram(path, threads=threads)
        case "torch_export", _:
            from shipway.runtime.torch_programs import TorchExportProgram

            return TorchExportProgram(path, threads=threads)
        case "aot_inductor", _ if device == "cuda":
            from shipway.runtime.cuda import AotInductorCudaProgram

            return AotInductorCudaProgram(path, threads=threads, device_index=device_index)
        case "aot_inductor", _:
            from shipway.runtime.torch_programs import AotInductorProgram

            return AotInductorProgram(path, threads=threads)
    raise AssertionError(f"the manifest lets no format {format!r} through")


def open_program(artifact: Artifact, name: str, *, threads: int, device_index: int = 0) -> Program:
    """Opens a program of an artifact, its digest checked first.

    Raises ArtifactError, DeviceUnusable, or BrokenProgram for what its runtime refuses.
    """
    program = artifact.manifest.programs[name]
    path = artifact.program_path(name)
    try:
        return open_file(
            path,
            program.format,
            program.runtime,
            program.precision,
            threads=threads,
            device=program.device,
            device_index=device_index,
        )
    except RuntimeProblem:
        raise
    except Exception as error:  # runtimes share no classes
        raise BrokenProgram(path, program.runtime, error) from error
