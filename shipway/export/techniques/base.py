"""What every export technique is given, and what it declares about the program it makes."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from shipway.artifact.certificate import LayerSensitivity
from shipway.artifact.manifest import Precision, Requirements
from shipway.recipe import Axis, Rows, TensorSpec
from shipway.runtime.backends.packages import installed

SHARE_NEEDED = 0.9
"""Share of the heavy operations that must run in the precision that a program claims."""
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Unavailable(Exception):
    """A technique cannot be used here. The report shows the text as the reason."""


class WrongProgram(Exception):
    """A technique would build a program that is not the module. The report shows the text as the
    reason why the candidate is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One model to export: its module in eval mode, with preprocessing, and real inputs."""

    module: nn.Module
    """Takes the inputs of a request, as `inputs` describes them."""
    example: tuple[np.ndarray, ...]
    """Two rows of real input: tracing with one row would fix the batch size at 1."""
    calibration: Rows
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    """Names of the program's outputs. The module returns a tensor for one, else a tuple of them."""
    programs: Path
    """Folder of all programs, so that one technique can start from the file of another."""
    branches: Rows | None = None
    """Rows that take branches which the example does not. Each program is compared on them too."""
    layer_prefix: str = ""
    """What the wrapper for preprocessing puts before the names of the user's own layers."""

    @property
    def example_tensors(self) -> tuple[Tensor, ...]:
        """The example rows as torch tensors."""
        return tuple(map(torch.from_numpy, self.example))

    @property
    def dynamic_shapes(self) -> tuple[dict[int, object], ...] | None:
        """The dynamic axes of each input, for torch.export; None if there are none.

        DYNAMIC, unlike AUTO, makes the export fail if the module fixes the size of an axis.
        """
        shapes = tuple(
            {
                index: torch.export.Dim.DYNAMIC(min=axis.min, max=axis.max)
                for index, axis in enumerate(spec.shape)
                if isinstance(axis, Axis) and axis.max > 1
            }
            for spec in self.inputs
        )
        return shapes if any(shapes) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRanking:
    """How the layers of a quantized program are ranked for the report."""

    program: str
    """The technique whose program is examined."""
    rank: Callable[[Job, Rows], Sequence[LayerSensitivity]]
    """Returns what quantizing each layer costs on the given rows, the most sensitive layer first.
    Raises Unavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Technique:
    """One way to make a program of a module."""

    name: str
    file: str
    """Name of the program's file in programs/."""
    packages: tuple[str, ...] = ()
    """The packages that build it, beside torch. Their versions are recorded, and another version
    builds the program again."""
    order: int = 1000
    """Techniques are tried by ascending order. One that another technique starts from must come
    before it. The last portable technique that passes is the artifact's fallback."""
    runs: str | None = None
    """The technique whose file this one runs unchanged, on another runtime."""
    format: str
    runtime: str
    """Name of the backend that opens the program."""
    precision: Precision = "fp32"
    quantization: str | None = None
    """The scheme in words, for the report."""
    device: Literal["cpu", "cuda"] = "cpu"
    dynamic: bool = False
    """Whether activations are quantized by the range of the whole batch, so that the rows of a
    batch affect each other."""
    portable: bool = False
    """Whether the program runs on every host that has its runtime."""
    unsupported_reason: Callable[[nn.Module], str | None] = lambda module: None
    """Returns why the technique is not for this module, or None. Called before the build."""
    build: Callable[[Job, Path], None]
    """Writes the program to the given path. Raises Unavailable, or any other exception for a
    module that it cannot handle."""
    requires: Callable[[], Requirements] = Requirements
    """Returns what a host needs to run the program that was built on this one."""
    layer_ranking: LayerRanking | None = None
    """For quantized programs whose layers the report should rank."""


def require_package(package: str) -> None:
    """Raises Unavailable if an optional package is not installed."""
    if installed(package) is None:
        raise Unavailable(f"the package {package} is not installed")


def require_program(job: Job, technique: Technique) -> Path:
    """The file that another technique has built; raises Unavailable if there is none."""
    path = job.programs / technique.file
    if not path.exists():
        raise Unavailable(f"it is made from {technique.name}, which is missing")
    return path


def heavy_layers(module: nn.Module) -> tuple[int, int]:
    """The number of convolutions and of linear layers in a module."""
    return (
        sum(isinstance(layer, CONVOLUTIONS) for layer in module.modules()),
        sum(isinstance(layer, nn.Linear) for layer in module.modules()),
    )


@contextmanager
def without_warnings() -> Iterator[None]:
    """Keeps ONNX Runtime's quantizer from warning of what is meant, which it does by the root
    logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
