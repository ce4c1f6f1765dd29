"""What every export technique is given, and what it says of the program it makes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from torch import nn

from shipway.artifact.manifest import Axis, Requirements, TensorSpec


class Unavailable(Exception):
    """A technique cannot be used here; its text is the reason that the table shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One model to export. Its module is in eval mode and takes what the wire carries."""

    module: nn.Module
    example: np.ndarray
    """Two rows or more of real input: tracing with one row would fix the batch at one."""
    calibration: np.ndarray
    batch: Axis
    input: TensorSpec
    programs: Path
    """Where every technique leaves its program, so that one can build on another's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Technique:
    """One way to make a program of a module; `build` writes the file it is given the path of."""

    name: str
    file: str
    format: Literal["onnx", "torchscript", "torch_export", "aot_inductor"]
    precision: Literal["fp32", "int8"] = "fp32"
    quantization: str | None = None
    portable: bool = False
    """Whether the program runs on every host that has its runtime."""
    build: Callable[[Job, Path], None]
    """Raises Unavailable, or anything else for a module that it cannot handle."""
    requires: Callable[[], Requirements] = Requirements
