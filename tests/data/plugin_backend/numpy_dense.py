"""A runtime backend and a technique as a plugin: linear layers with tanh, computed by NumPy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shipway.artifact.certificate import Kernels
from shipway.artifact.manifest import Program as Described
from shipway.runtime.backends import BACKENDS
from shipway.runtime.backends.base import Program, ProgramFile


class DenseProgram:
    """The layers of one .npz file."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as arrays:
            count = len(arrays.files) // 2
            self._layers = [(arrays[f"weight{n}"], arrays[f"bias{n}"]) for n in range(count)]

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        (values,) = inputs
        for n, (weight, bias) in enumerate(self._layers):
            values = (np.tanh(values) if n else values) @ weight.T + bias
        return [values]


class NumpyDense:
    """NumPy on the CPU."""

    package = "numpy"
    formats: tuple[str, ...] = ("dense_npz",)
    prepares = False
    warms: Literal["all", "largest"] = "largest"
    uses_torch = False

    def open(self, program: ProgramFile, *, threads: int, device_index: int = 0) -> Program:
        return DenseProgram(program.path)

    def unsupported_reason(self, program: Described) -> str | None:
        return None

    def kernels(
        self,
        file: ProgramFile,
        opened: Program,
        batch: Sequence[np.ndarray],
        input_names: Sequence[str],
    ) -> Kernels | None:
        return None


BACKENDS.register("numpy_dense")(NumpyDense())

try:
    from shipway.export.techniques import register
    from shipway.export.techniques.base import Job, Technique, Unavailable
except ImportError:  # an archive carries the backend, and no code that exports
    pass
else:

    def build(job: Job, path: Path) -> None:
        """Writes the weights of a sequence of linear layers with tanh between them."""
        from torch import nn

        layers = [module for module in job.module.modules() if isinstance(module, nn.Linear)]
        if not layers:
            raise Unavailable("the module has no linear layer")
        arrays: dict[str, Any] = {}
        for n, layer in enumerate(layers):
            arrays[f"weight{n}"] = layer.weight.detach().numpy()
            arrays[f"bias{n}"] = layer.bias.detach().numpy()
        with path.open("wb") as file:
            np.savez(file, **arrays)

    register(
        Technique(
            name="numpy_dense",
            file="dense.npz",
            format="dense_npz",
            runtime="numpy_dense",
            portable=True,
            build=build,
        )
    )
