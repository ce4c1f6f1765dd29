"""What a runtime backend is, and the programs that it opens.

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
"""As runtimes spell the types of numbers."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramFile:
    """A program as it lies on disk."""

    path: Path
    format: str
    precision: Precision
    device: Literal["cpu", "cuda"] = "cpu"


class Backend(Protocol):
    """One runtime. Its methods import it, since a worker needs one runtime of several."""

    package: str
    """The distribution that brings the runtime."""
    formats: tuple[str, ...]
    """Of the files that it opens, as manifests call them."""
    prepares: bool
    """Whether each shape of input is prepared when it is first run, and keeps memory."""
    warms: Literal["all", "largest"]
    """Which batch sizes are run once before a worker is ready: the largest brings the memory."""

    def open(self, program: ProgramFile, *, threads: int, device_index: int = 0) -> Program:
        """Opens a file that was checked before. `threads` are those of one run; `device_index` is
        that of the GPU among those this process sees. Raises DeviceUnusable."""
        ...

    def unsupported_reason(self, program: Described) -> str | None:
        """Why this host cannot run a program, beside what the manifest requires; None if it can."""
        ...

    def kernels(
        self,
        file: ProgramFile,
        opened: Program,
        batch: Sequence[np.ndarray],
        input_names: Sequence[str],
    ) -> Kernels | None:
        """The arithmetic of one run of `batch`. None where the runtime does not tell it."""
        ...
