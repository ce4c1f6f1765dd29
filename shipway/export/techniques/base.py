"""What every export technique is given, and what it says of the program it makes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from shipway.artifact.manifest import Precision, Requirements
from shipway.recipe import Axis, Rows, TensorSpec
from shipway.runtime.host import installed


class Unavailable(Exception):
    """A technique cannot be used here; its text is the reason that the table shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One model to export. Its module is in eval mode and takes what the wire carries."""

    module: nn.Module
    example: tuple[np.ndarray, ...]
    """Two rows of real input: tracing with one would fix the batch at one."""
    calibration: Rows
    inputs: tuple[TensorSpec, ...]
    output: str
    programs: Path
    """Where every technique leaves its program, so that one can build on another's."""

    @property
    def example_tensors(self) -> tuple[Tensor, ...]:
        return tuple(map(torch.from_numpy, self.example))

    @property
    def dynamic_shapes(self) -> tuple[dict[int, object], ...] | None:
        """For torch.export: the axes that may vary, of each input.

        DYNAMIC, unlike AUTO, fails the export if the module fixes an axis behind our back.
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
class Technique:
    """One way to make a program of a module; `build` writes the file it is given the path of."""

    name: str
    file: str
    """Its name in programs/."""
    order: int = 1000
    """Its place among the techniques, the least first: what others build on comes before them, and
    of those that are portable the last that passes is the fallback."""
    runs: str | None = None
    """The technique whose file this one runs as it is, on another runtime."""
    format: str
    runtime: str
    precision: Precision = "fp32"
    quantization: str | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    dynamic: bool = False
    """Whether activations are quantized by the batch they ride in, so that rows affect others."""
    portable: bool = False
    """Whether the program runs on every host that has its runtime."""
    suits: Callable[[nn.Module], str | None] = lambda module: None
    """Why this is not for such a module, or None: asked before anything is built."""
    build: Callable[[Job, Path], None]
    """Raises Unavailable, or anything else for a module that it cannot handle."""
    requires: Callable[[], Requirements] = Requirements


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def require_package(package: str) -> None:
    """Raises Unavailable if a package that not every environment has is not installed."""
    if installed(package) is None:
        raise Unavailable(f"the package {package} is not installed")


def heavy_layers(module: nn.Module) -> tuple[int, int]:
    """How many convolutions and how many linear layers a module has."""
    return (
        sum(isinstance(each, CONVOLUTIONS) for each in module.modules()),
        sum(isinstance(each, nn.Linear) for each in module.modules()),
    )
