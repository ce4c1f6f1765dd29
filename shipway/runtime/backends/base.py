"""What a runtime backend is, and the programs that it opens.

A backend is one file with an object that is registered under the name that manifests give its
runtime:

    BACKENDS.register("onnxruntime")(OnnxRuntime())

A program called int8 can hold int8 weights and multiply in fp32 all the same, so a backend also
tells which arithmetic ran. Heavy operations are the convolutions and the matrix products with
trained weights. Attention's products of two activations have none and mostly stay as they are;
where they are quantized, they count as well.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from shipway.artifact.certificate import Kernels
from shipway.artifact.manifest import Precision
from shipway.artifact.manifest import Program as Described

PRECISION_OF = {
    "f32": "fp32",
    "bf16": "bf16",
    "f16": "fp16",
    "u8": "int8",
    "s8": "int8",
    "i8": "int8",
}
"""Precisions by the names that runtimes have for types of numbers."""

Outputs = list[np.ndarray]
"""One array for each output, (rows, …)."""


class Program(Protocol):
    """An open program. Not safe to call from two threads at once."""

    def run(self, inputs: Sequence[np.ndarray]) -> Outputs:
        """The outputs of one batch, in the manifest's order, with its dtypes and shapes. `inputs`
        hold one array for each of the manifest's inputs, (rows, …). Outputs may lie in the memory
        of the inputs; a caller that writes to that memory later copies them first."""
        ...


@runtime_checkable
class Overlapping(Program, Protocol):
    """A program that copies a batch in and another out while it computes a third."""

    host_to_device_ms: float
    """Milliseconds that copying in took, for the batch whose outputs came last."""

    def run_all(self, batches: Iterable[Sequence[np.ndarray]]) -> Iterator[Outputs]:
        """The outputs of each batch, in order. Later batches are taken before they come.

        A batch's arrays may be overwritten when the next batch is taken; arrays from `zeros` only
        when the batch's outputs have come.
        """
        ...

    def zeros(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """An array in the memory from which a batch is copied fastest, filled with zeros."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramFile:
    """A program on disk."""

    path: Path
    format: str
    """One of its backend's `formats`."""
    precision: Precision
    device: Literal["cpu", "cuda"] = "cpu"


class Backend(Protocol):
    """One runtime. Its file may import the runtime: a worker imports only the file it needs."""

    package: str
    """The distribution that holds the runtime, as `pip` names it."""
    formats: tuple[str, ...]
    """The formats of files that it opens, as manifests name them."""
    prepares: bool
    """Whether the first run of each input shape prepares for it and keeps memory for it."""
    warms: Literal["all", "largest"]
    """The batch sizes that are run once before a worker is ready."""
    uses_torch: bool
    """Whether its programs compute with torch, in this process and with its threads."""

    def open(self, program: ProgramFile, *, threads: int, device_index: int = 0) -> Program:
        """Opens a file whose digest was checked. `threads` compute one run; `device_index` is the
        GPU, counted among those that this process sees. Raises DeviceUnusable. Any other error
        means that the file cannot be opened."""
        ...

    def unsupported_reason(self, program: Described) -> str | None:
        """Why this host cannot run a program, apart from what the manifest requires; None if it
        can."""
        ...

    def kernels(
        self,
        file: ProgramFile,
        opened: Program,
        batch: Sequence[np.ndarray],
        input_names: Sequence[str],
    ) -> Kernels | None:
        """The precisions in which one run of `batch` computed; None if the runtime hides them."""
        ...
