"""What a recipe is written against: everything that export must be told of a model.

    from shipway.recipe import ImagePreprocessing, Inputs, Recipe

Axes: B = rows, H and W = pixels, C = channels, T = tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from shipway.errors import ShipwayError

if TYPE_CHECKING:
    from torch import nn

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


class Tolerance(Record):
    """How far from eager a candidate may be and still be served."""

    relative_error: float
    top1_agreement: float = 0.0
    """For classifiers."""
    cosine: float = -1.0
    """For the worst row."""


class InvalidRecipe(ShipwayError):
    """A recipe that cannot be read, or that says what cannot be."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Inputs as the wire carries them, row by row."""

    arrays: tuple[np.ndarray, ...]
    """One for each of the recipe's inputs, in its dtype and shape, all with the same rows."""
    targets: np.ndarray | None = None
    """The true class of each row, int64 (rows,), where it is known."""

    def __len__(self) -> int:
        return len(self.arrays[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Real inputs for calibrating or comparing."""

    description: str
    """What they are, for the certificate: "16 crops of each of 6 photos"."""
    load: Callable[["Recipe"], Rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a state_dict becomes a served model."""

    name: str
    """What clients ask for: letters, digits, `_`, `-` and `.`."""
    version: str = "1.0"
    task: Name = "image_classification"
    module: "Callable[[], nn.Module]"
    """Builds the architecture; its weights are loaded afterwards.

    It takes normalised pixels (B, 3, H, W) for images, ids and mask (B, T) for text, raw numbers
    (B, columns) for tables, and for tensors whatever the recipe says.
    """
    weights: Callable[[], str | Path | None]
    """The path of the state_dict, .pth or .safetensors, unless --weights gives another. None for
    random weights: good for speed work, and for nothing else."""
    preprocessing: ImagePreprocessing | TextPreprocessing | TablePreprocessing | TensorPreprocessing
    batch: Axis = field(default_factory=lambda: Axis(name="batch", min=1, max=32))
    """How many rows one run may hold."""
    labels: Callable[[], Sequence[str]] = tuple
    """The classes' names, in the order of the module's outputs; none for an embedding."""
    calibration: Inputs
    """What int8 ranges are taken from."""
    evaluation: Inputs
    """What candidates are compared with eager on: nothing that calibration saw."""
    files: Callable[[], Mapping[str, Path]] = dict
    """What else serving needs, by its name in the artifact's folder files/: a tokenizer."""
    plugins: tuple[str, ...] = ()
    """Modules beside the recipe's file, NAME.py each, that register a task, a technique or a
    runtime backend. They become part of the artifact and of its archive."""
    top_k: int = 5
    tolerances: dict[str, Tolerance] = field(default_factory=dict)
    """By precision; what is not named keeps the default of `shipway.export.verify.TOLERANCES`."""

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        check_name(self.version, "version")

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the programs take, which is what the wire carries."""
        match self.preprocessing:
            case ImagePreprocessing(height=height, width=width):
                pixels = (self.batch, height, width, 3)
                return (TensorSpec(name="pixels", dtype="uint8", shape=pixels),)
            case TextPreprocessing(max_length=longest):
                tokens = (self.batch, Axis(name="length", min=2, max=longest))
                return (
                    TensorSpec(name="input_ids", dtype="int64", shape=tokens),
                    TensorSpec(name="attention_mask", dtype="int64", shape=tokens),
                )
            case TablePreprocessing(columns=columns):
                features = (self.batch, len(columns))
                return (TensorSpec(name="features", dtype="float32", shape=features),)
            case TensorPreprocessing(inputs=inputs):
                return inputs


def check_name(text: str, role: str) -> None:
    """Raises InvalidRecipe unless `text` can be a name or a version in a manifest and in a URL."""
    try:
        TypeAdapter(Name).validate_python(text)
    except ValidationError as error:
        raise InvalidRecipe(
            f"The {role} {text!r} cannot be used: letters, digits, `_`, `-` and `.` can, "
            "a letter or digit first."
        ) from error
