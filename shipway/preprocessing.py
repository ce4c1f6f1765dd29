"""What a program takes: axes, tensors, and the kinds of preprocessing that make them.

Axes: B = rows, H and W = pixels, T = tokens.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
"""A name in a manifest and in a URL."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A digest in hexadecimal."""
Positive = Annotated[int, Field(gt=0, lt=2**53)]
Size = Annotated[int, Field(gt=0, lt=2**31)]
"""The size of an axis."""
DTYPES = (
    "bool",
    *(f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)),
    *(f"float{bits}" for bits in (16, 32, 64)),
)


def _known_dtype(name: str) -> str:
    if name not in DTYPES:
        raise ValueError(f"{name!r} is no dtype of a tensor; give one of {', '.join(DTYPES)}")
    return name


Dtype = Annotated[str, AfterValidator(_known_dtype)]
"""As NumPy and torch both spell it: "uint8", "float32"."""


class Record(BaseModel):
    """A validated, immutable part of a file. An unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Axis(Record):
    """An axis whose size varies, and its bounds: `Axis(name="batch", min=1, max=32)`."""

    name: str
    """Inputs whose axes share a name must have the same size there in one request."""
    min: Size = 1
    """The smallest size."""
    max: Size
    """The largest size."""

    @model_validator(mode="after")
    def _ordered(self) -> "Axis":
        if self.max < self.min:
            raise ValueError(
                f"the axis {self.name!r} has max {self.max}, which is below its min {self.min}"
            )
        return self


class TensorSpec(Record):
    """One input or output of a program."""

    name: str
    """What clients call it in Open Inference Protocol requests."""
    dtype: Dtype
    """As NumPy spells it: "float32", "int64", "uint8"."""
    shape: tuple[Size | Axis, ...]
    """A number for a fixed axis, an Axis for one that varies. The first axis is the batch."""


class _Preprocessing(Record):
    """What every kind of preprocessing says of itself."""

    source: str
    """Where it is documented that the weights were trained with this: a URL, a paper, a file."""

    def input_specs(self, batch: Axis) -> tuple[TensorSpec, ...]:
        """The program's inputs, with `batch` as their first axis."""
        raise NotImplementedError

    @property
    def files(self) -> tuple[str, ...]:
        """The files of the artifact that it reads, such as "files/tokenizer.json"."""
        return ()

    @property
    def pad_values(self) -> tuple[int, ...] | None:
        """For inputs (B, T) whose rows differ in length: what each input is padded with. None for
        rows that are not padded."""
        return None


class ImagePreprocessing(_Preprocessing):
    """The bytes of an image file to pixels, uint8 (B, H, W, C).

    The image is decoded, turned upright by its EXIF orientation, made one of the program's size as
    `fit` says, and has `channels` colours. The program normalises the pixels, which range from 0 to
    255: (pixel - mean) / std.
    """

    kind: Literal["image"] = "image"
    height: Size
    """In pixels."""
    width: Size
    """In pixels."""
    fit: Literal["crop", "squash", "letterbox"] = "crop"
    """"crop" keeps a centred square and resizes it. "squash" resizes the whole image, whatever its
    proportions. "letterbox" resizes it to the largest of its proportions that fits, and puts `fill`
    around it."""
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Side of the crop by the image's shorter side: 224 / 256 = 0.875 for many models."""
    fill: Annotated[int, Field(ge=0, le=255)] = 114
    """Of each channel, around a letterboxed image. 114 is what the YOLO family is trained with."""
    channels: Literal[1, 3, 4] = 3
    """1 for grey (ITU-R BT.601, as Pillow's "L"), 3 for RGB, 4 for RGB and alpha. With 1 and 3,
    what is transparent is on white."""
    resample: Literal["bilinear", "bicubic", "lanczos"]
    """The filter that resizes, as Pillow names it; it smooths before it shrinks."""
    mean: tuple[FiniteFloat, ...]
    """Of each channel, on the scale from 0 to 255: ImageNet's is (123.675, 116.28, 103.53)."""
    std: tuple[FiniteFloat, ...]
    """Of each channel, on the scale from 0 to 255: ImageNet's is (58.395, 57.12, 57.375)."""

    @model_validator(mode="after")
    def _consistent(self) -> "ImagePreprocessing":
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                raise ValueError(
                    f"{name} has {len(values)} numbers and the image {self.channels} channels; "
                    "give one for each"
                )
        if self.fit == "crop" and "crop_fraction" not in self.model_fields_set:
            raise ValueError(
                "crop_fraction is missing; give the side of the crop by the image's shorter side, "
                "1 to crop nothing but to a square"
            )
        if self.fit != "crop" and self.crop_fraction != 1:
            raise ValueError(
                f"crop_fraction is {self.crop_fraction:g}, and fit={self.fit!r} crops nothing; "
                'leave it out, or set fit="crop"'
            )
        return self

    def input_specs(self, batch: Axis) -> tuple[TensorSpec, ...]:
        """`pixels`, uint8 (B, H, W, C)."""
        pixels = (batch, self.height, self.width, self.channels)
        return (TensorSpec(name="pixels", dtype="uint8", shape=pixels),)


class TextPreprocessing(_Preprocessing):
    """A text to token ids, by a tokenizer in the artifact's files.

    The program takes ids and attention mask, both int64 (B, T), padded with `pad_id` and 0.
    """

    kind: Literal["text"] = "text"
    tokenizer: Annotated[str, Field(pattern=r"^files/[A-Za-z0-9_.-]+$")]
    """The path in the artifact of a file in the format of the `tokenizers` library, as a rule
    "files/tokenizer.json". The recipe's `files` must hold it."""
    max_length: Size
    """The most tokens of one text, special tokens included."""
    too_long: Literal["truncate", "refuse"]
    """What is done with a longer text: cut its end off, or answer 413."""
    pad_id: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """The token id that fills shorter texts of a batch."""

    @property
    def files(self) -> tuple[str, ...]:
        """The tokenizer."""
        return (self.tokenizer,)

    @property
    def pad_values(self) -> tuple[int, ...]:
        """`pad_id` for the ids, 0 for the mask."""
        return (self.pad_id, 0)

    def input_specs(self, batch: Axis) -> tuple[TensorSpec, ...]:
        """`input_ids` and `attention_mask`, int64 (B, T)."""
        tokens = (batch, Axis(name="length", min=2, max=self.max_length))
        return (
            TensorSpec(name="input_ids", dtype="int64", shape=tokens),
            TensorSpec(name="attention_mask", dtype="int64", shape=tokens),
        )


class Column(Record):
    """A column of a table, and what it may hold."""

    name: str
    """What requests call it."""
    values: tuple[str, ...] = ()
    """Of a category: the texts that it may be. The program takes the place of one, from 0 on."""
    integer: bool = False
    """Whether only whole numbers are accepted."""
    min: FiniteFloat | None = None
    """The smallest number that is accepted."""
    max: FiniteFloat | None = None
    """The largest number that is accepted."""
    missing: FiniteFloat | None = None
    """What the program takes where a request has null, or nothing in an object. None: that is
    refused."""

    @model_validator(mode="after")
    def _consistent(self) -> "Column":
        if self.values and (self.integer or self.min is not None or self.max is not None):
            raise ValueError(f"the column {self.name!r} has values, and limits for numbers as well")
        if len(set(self.values)) != len(self.values):
            raise ValueError(f"two values of the column {self.name!r} are the same")
        if self.min is not None and self.max is not None and self.max < self.min:
            raise ValueError(f"the column {self.name!r} has a max below its min")
        return self


class TablePreprocessing(_Preprocessing):
    """Rows of a table, float32 (B, columns): numbers as they are, a category as the place of its
    value. Any scaling is part of the module."""

    kind: Literal["table"] = "table"
    columns: tuple[str | Column, ...]
    """The columns, in the order in which the module takes them; a name alone for any number."""

    @model_validator(mode="after")
    def _different(self) -> "TablePreprocessing":
        if len(set(self.names)) != len(self.names):
            raise ValueError("two columns have the same name; name each once")
        return self

    @property
    def described(self) -> tuple[Column, ...]:
        """Each column, also those of which only the name was given."""
        return tuple(
            each if isinstance(each, Column) else Column(name=each) for each in self.columns
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(each if isinstance(each, str) else each.name for each in self.columns)

    def input_specs(self, batch: Axis) -> tuple[TensorSpec, ...]:
        """`features`, float32 (B, columns)."""
        features = (batch, len(self.columns))
        return (TensorSpec(name="features", dtype="float32", shape=features),)


class TensorPreprocessing(_Preprocessing):
    """Tensors, unchanged: for a model that no other kind fits, and for tasks of plugins."""

    kind: Literal["tensors"] = "tensors"
    inputs: tuple[TensorSpec, ...]
    """What the program takes, in the module's order; the first axis of each is the batch."""

    @model_validator(mode="after")
    def _consistent(self) -> "TensorPreprocessing":
        names = [each.name for each in self.inputs]
        if len(set(names)) != len(names):
            raise ValueError(f"two inputs have the same name, of {names}; name each once")
        axes: dict[str, Axis] = {}
        for each in self.inputs:
            for axis in each.shape:
                if isinstance(axis, Axis) and axes.setdefault(axis.name, axis) != axis:
                    first = axes[axis.name]
                    raise ValueError(
                        f"the axis {axis.name!r} goes from {first.min} to {first.max} in one "
                        f"place and from {axis.min} to {axis.max} in {each.name!r}; axes of one "
                        "name have the same size in each request, so give both the same bounds "
                        "or another name"
                    )
        return self

    def input_specs(self, batch: Axis) -> tuple[TensorSpec, ...]:
        """The tensors as they are described."""
        return self.inputs


Preprocessing = Annotated[
    ImagePreprocessing | TextPreprocessing | TablePreprocessing | TensorPreprocessing,
    Field(discriminator="kind"),
]
"""Any of the kinds, told apart by their field `kind`."""
