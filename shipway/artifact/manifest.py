"""`manifest.json`: everything that both the exporting and the serving side must know.

Axes: B = rows, H and W = pixels, C = channels. The format in prose is README.md in this folder.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

FORMAT: Literal[1] = 1

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Positive = Annotated[int, Field(gt=0)]


class Record(BaseModel):
    """A validated, immutable part of a file; an unknown field is an error, not a surprise."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Axis(Record):
    """A dynamic axis and the sizes it may take, both ends included."""

    name: str
    min: Positive = 1
    max: Positive

    @model_validator(mode="after")
    def _ordered(self) -> "Axis":
        if self.max < self.min:
            raise ValueError(f"axis {self.name!r} runs from {self.min} to {self.max}")
        return self


class TensorSpec(Record):
    """One input or output of a program."""

    name: str
    dtype: str
    """As NumPy and torch both spell it: "uint8", "float32"."""
    shape: tuple[Positive | Axis, ...]
    """A number for a fixed axis, an Axis for a dynamic one."""


class ImagePreprocessing(Record):
    """From the bytes of an image file to the pixels that the program takes.

    Decode to RGB, turn upright by EXIF, cut the centred square whose side is `crop_fraction` of
    the shorter side, resize. `mean` and `std` are applied inside the program:
    (pixel - mean) / std, with pixels from 0 to 255.
    """

    kind: Literal["image"] = "image"
    height: Positive
    width: Positive
    crop_fraction: Annotated[float, Field(gt=0, le=1)]
    resample: Literal["bilinear", "bicubic", "lanczos"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source: str
    """Where it is written that the weights were trained with this."""


class Requirements(Record):
    """What a program needs of a host; empty for one that runs anywhere."""

    machine: str | None = None
    """As `platform.machine()` says it."""
    cpu_flags: tuple[str, ...] = ()
    """Processor features, all needed, as /proc/cpuinfo spells them."""
    packages: dict[str, str] = {}
    """Exact versions, for formats that do not survive another one."""


class Program(Record):
    """One exported form of the model."""

    file: Annotated[str, Field(pattern=r"^programs/[A-Za-z0-9_.-]+$")]
    format: Literal["onnx", "torchscript", "torch_export", "aot_inductor"]
    precision: Literal["fp32", "int8"]
    quantization: str | None = None
    """The scheme in words, None for an unquantized program."""
    device: Literal["cpu", "cuda"] = "cpu"
    requires: Requirements = Requirements()
    bytes: Positive
    sha256: Sha256


class Serving(Record):
    """The settings that did best on the exporting host; registration may override them."""

    batch_size: Positive
    max_batch_delay_ms: Annotated[int, Field(ge=0)] = 0
    workers: Positive = 1
    threads: Positive


class Manifest(Record):
    format: Literal[1] = FORMAT
    name: Name
    version: Name
    task: Literal["image_classification"]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing: ImagePreprocessing
    labels: tuple[str, ...]
    top_k: Positive
    programs: dict[Name, Program]
    chosen: Name
    chosen_because: str
    fallback: Name
    """The program for a host that the chosen one does not fit."""
    serving: Serving
    checkpoint_sha256: Sha256
    packages: dict[str, str]
    """Versions that the programs were made with."""
    created: str
    """ISO 8601, UTC."""

    @model_validator(mode="after")
    def _names_known_programs(self) -> "Manifest":
        for role in ("chosen", "fallback"):
            if getattr(self, role) not in self.programs:
                raise ValueError(
                    f"{role} is {getattr(self, role)!r}, which is not among {sorted(self.programs)}"
                )
        if not isinstance(self.inputs[0].shape[0], Axis):
            raise ValueError("the first axis of the first input must be dynamic: it is the batch")
        return self

    @property
    def max_batch(self) -> int:
        """The most rows that one run of a program may hold."""
        axis = self.inputs[0].shape[0]
        assert isinstance(axis, Axis)
        return axis.max
