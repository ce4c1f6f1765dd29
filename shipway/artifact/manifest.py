"""`manifest.json`: everything that both the exporting and the serving side must know.

Axes: B = rows, H and W = pixels, C = channels. The format in prose is README.md in this folder.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

FORMAT: Literal[1] = 1

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Positive = Annotated[int, Field(gt=0, lt=2**53)]
Size = Annotated[int, Field(gt=0, lt=2**31)]
"""Of an axis."""
Dtype = Annotated[str, Field(pattern=r"^(bool|u?int(8|16|32|64)|float(16|32|64))$")]
"""As NumPy and torch both spell it: "uint8", "float32"."""


class Record(BaseModel):
    """A validated, immutable part of a file; an unknown field is an error, not a surprise."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Axis(Record):
    """A dynamic axis and the sizes it may take, both ends included."""

    name: str
    min: Size = 1
    max: Size

    @model_validator(mode="after")
    def _ordered(self) -> "Axis":
        if self.max < self.min:
            raise ValueError(f"axis {self.name!r} runs from {self.min} to {self.max}")
        return self


class TensorSpec(Record):
    """One input or output of a program."""

    name: str
    dtype: Dtype
    shape: tuple[Size | Axis, ...]
    """A number for a fixed axis, an Axis for a dynamic one."""


class ImagePreprocessing(Record):
    """From the bytes of an image file to the pixels that the program takes.

    Decode to RGB, turn upright by EXIF, cut the centred square whose side is `crop_fraction` of
    the shorter side, resize. `mean` and `std` are applied inside the program:
    (pixel - mean) / std, with pixels from 0 to 255.
    """

    kind: Literal["image"] = "image"
    height: Size
    width: Size
    crop_fraction: Annotated[float, Field(gt=0, le=1)]
    resample: Literal["bilinear", "bicubic", "lanczos"]
    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    std: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    source: str
    """Where it is written that the weights were trained with this."""


class TextPreprocessing(Record):
    """From a text to token ids, by the tokenizer in the artifact's files.

    The program takes ids and attention mask, both int64 (B, T), padded with `pad_id` and 0.
    """

    kind: Literal["text"] = "text"
    tokenizer: Annotated[str, Field(pattern=r"^files/[A-Za-z0-9_.-]+$")]
    """In the format of the `tokenizers` library."""
    max_length: Size
    """In tokens, the special ones included."""
    too_long: Literal["truncate", "refuse"]
    pad_id: Annotated[int, Field(ge=0, lt=2**31)] = 0
    source: str


class TablePreprocessing(Record):
    """Numbers, one a column, as they are: any scaling is part of the program."""

    kind: Literal["table"] = "table"
    columns: tuple[str, ...]
    source: str


class TensorPreprocessing(Record):
    """Tensors as they are: for a model that no other kind is for."""

    kind: Literal["tensors"] = "tensors"
    inputs: tuple[TensorSpec, ...]
    """What the program takes; the first axis of each is the batch."""
    source: str


Preprocessing = Annotated[
    ImagePreprocessing | TextPreprocessing | TablePreprocessing | TensorPreprocessing,
    Field(discriminator="kind"),
]
Task = Literal[
    "image_classification",
    "text_embedding",
    "text_classification",
    "tabular_classification",
    "tensors",
]
Precision = Literal["fp32", "bf16", "fp16", "int8"]
Format = Literal["onnx", "torchscript", "torch_export", "aot_inductor"]
Runtime = Literal["onnxruntime", "openvino", "torch"]


def is_classifier(task: Task) -> bool:
    return task.endswith("_classification")


class Requirements(Record):
    """What a program needs of a host; empty for one that runs anywhere."""

    machine: str | None = None
    """As `platform.machine()` says it."""
    cpu_flags: tuple[str, ...] = ()
    """Processor features, all needed, as /proc/cpuinfo spells them."""
    packages: dict[str, str] = {}
    """Exact versions, for formats that do not survive another one."""
    compute_capability: str | None = None
    """Of the GPU it was compiled for: "9.0"."""


class Program(Record):
    """One exported form of the model."""

    file: Annotated[str, Field(pattern=r"^programs/[A-Za-z0-9_.-]+$")]
    format: Format
    runtime: Runtime
    """What runs it: the same ONNX file is one program with ONNX Runtime, another with OpenVINO."""
    precision: Precision
    """What its heavy operations compute in."""
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


class ParetoPoint(Record):
    """A program that no other one beats in both: what it loses, and how long it takes."""

    program: Name
    points_lost: float
    """Of accuracy where the true classes are known, else of agreement with eager; in percent."""
    latency_ms: float
    """The geometric mean over the compared shapes, at the best number of threads."""
    bytes: int


class Manifest(Record):
    format: Literal[1] = FORMAT
    name: Name
    version: Name
    task: Task
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    """The classes' names, in the order of the outputs; none for an embedding."""
    top_k: Positive
    """How many classes a reply holds; of no meaning without labels."""
    programs: dict[Name, Program]
    chosen: Name
    chosen_because: str
    objective: Literal["latency", "throughput", "size"]
    pareto: tuple[ParetoPoint, ...]
    """The choice there was, the most faithful first."""
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
        if not self.inputs or not self.inputs[0].shape or not self.outputs:
            raise ValueError("there must be an input with axes, and an output")
        if not isinstance(self.inputs[0].shape[0], Axis):
            raise ValueError("the first axis of the first input must be dynamic: it is the batch")
        return self

    @property
    def classifies(self) -> bool:
        """Whether each output is a class's logit."""
        return is_classifier(self.task)

    @property
    def max_batch(self) -> int:
        """The most rows that one run of a program may hold."""
        axis = self.inputs[0].shape[0]
        assert isinstance(axis, Axis)
        return axis.max
