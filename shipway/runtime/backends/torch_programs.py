"""TorchScript, torch.export and AOTInductor programs on the CPU, run in inference mode."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch


class _TorchProgram:
    """NumPy in, NumPy out, around anything that maps tensors to a tensor or several."""

    def __init__(self, call: Callable[..., Any], *, threads: int) -> None:
        torch.set_num_threads(threads)
        self._call = call

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode():
            outputs = self._call(*map(torch.from_numpy, inputs))
        if isinstance(outputs, torch.Tensor):
            outputs = (outputs,)
        return [as_numpy(output) for output in outputs]


def as_numpy(output: torch.Tensor) -> np.ndarray:
    """The tensor's values in its own dtype; bfloat16, which NumPy lacks, as float32."""
    if output.dtype == torch.bfloat16:
        output = output.float()
    array: np.ndarray = output.cpu().resolve_conj().resolve_neg().numpy()
    return array


class EagerProgram(_TorchProgram):
    """The module itself: what every other program is compared with."""

    def __init__(self, module: torch.nn.Module, *, threads: int) -> None:
        super().__init__(module.eval(), threads=threads)


class TorchScriptProgram(_TorchProgram):
    """A traced and frozen TorchScript file."""

    def __init__(self, path: Path, *, threads: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # kept as a legacy format
            script = torch.jit.load(path, map_location="cpu")
        super().__init__(script, threads=threads)


class TorchExportProgram(_TorchProgram):
    """A `.pt2` file of torch.export, run by PyTorch."""

    def __init__(self, path: Path, *, threads: int) -> None:
        with _tensors_alone():
            exported = torch.export.load(path)
        super().__init__(exported.module(), threads=threads)


class AotInductorProgram(_TorchProgram):
    """Compiled for the processor; cuda.AotInductorCudaProgram is for those compiled for a GPU."""

    def __init__(self, path: Path, *, threads: int) -> None:
        super().__init__(open_aot_inductor(path), threads=threads)


def open_aot_inductor(
    path: Path, *, single_threaded: bool = False, device_index: int = -1
) -> Callable[..., list[torch.Tensor]]:
    """A function from input tensors to output tensors, in the order in which torch flattens them.

    `single_threaded` leaves out the package's own locks and streams. `device_index` is the GPU,
    or -1. Raises RuntimeError for a file that is not a package.
    """
    # torch._inductor.aoti_load_package opens the package with the same loader. But first it imports
    # the compiler and compiles a program to learn the processor's vector instructions, which takes
    # 6 s; the manifest's requirements name them. On each call it parses the structure of inputs
    # and outputs from JSON, to nest what the caller wants flat.
    loader = torch._C._aoti.AOTIModelPackageLoader(
        str(path), "model", single_threaded, 1, device_index
    )

    def call(*tensors: torch.Tensor) -> list[torch.Tensor]:
        outputs: list[torch.Tensor] = loader.boxed_run(list(tensors))
        return outputs

    return call


@contextmanager
def _tensors_alone() -> Iterator[None]:
    """Where torch itself asks for `weights_only=False`, as `torch.export.load` does for weights
    that say so, nothing but tensors is unpickled all the same."""
    variable = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(variable)
    os.environ[variable] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before
