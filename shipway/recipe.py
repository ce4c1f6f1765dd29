"""What a recipe is written with. A recipe says how a trained state_dict becomes a served model.

    from shipway.recipe import Axis, ImagePreprocessing, Inputs, Recipe, Rows

    recipe = Recipe(name="flowers", module=Net, weights=lambda: "flowers.pth", …)

Axes: B = rows, H and W = pixels, C = channels, T = tokens, N = rows of an evaluation.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

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

__all__ = [
    "Axis",
    "ImagePreprocessing",
    "Inputs",
    "InvalidRecipe",
    "Preprocessing",
    "Recipe",
    "Rows",
    "Scores",
    "TablePreprocessing",
    "TensorPreprocessing",
    "TensorSpec",
    "TextPreprocessing",
    "Tolerance",
]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
"""A name in a manifest and in a URL."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A digest in hexadecimal."""
Positive = Annotated[int, Field(gt=0, lt=2**53)]
Size = Annotated[int, Field(gt=0, lt=2**31)]
"""The size of an axis."""
Dtype = Annotated[str, Field(pattern=r"^(bool|u?int(8|16|32|64)|float(16|32|64))$")]
"""As NumPy and torch both spell it: "uint8", "float32"."""
Scores = Literal["logits", "probabilities", "binary", "multi_label"]
"""What a classifier's outputs are: logits of which softmax makes probabilities; probabilities; one
logit, for the second of two classes; a logit for each of several independent labels."""
PLUGIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")


class Record(BaseModel):
    """A validated, immutable part of a file. An unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InvalidRecipe(ShipwayError):
    """A recipe that cannot be read, or whose fields are wrong."""


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
    """The bytes of an image file to pixels, uint8 (B, H, W, 3).

    The image is decoded to RGB, turned upright by its EXIF orientation, cut to the centred square
    whose side is `crop_fraction` of the shorter side, and resized. The program normalises the
    pixels, which range from 0 to 255: (pixel - mean) / std.
    """

    kind: Literal["image"] = "image"
    height: Size
    """In pixels."""
    width: Size
    """In pixels."""
    crop_fraction: Annotated[float, Field(gt=0, le=1)]
    """Side of the crop by the image's shorter side: 224 / 256 = 0.875 for many models."""
    resample: Literal["bilinear", "bicubic", "lanczos"]
    """The filter that resizes, as Pillow names it; it smooths before it shrinks."""
    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    """Of R, G and B, on the scale from 0 to 255: ImageNet's is (123.675, 116.28, 103.53)."""
    std: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    """Of R, G and B, on the scale from 0 to 255: ImageNet's is (58.395, 57.12, 57.375)."""

    def input_specs(self, batch: Axis) -> tuple[TensorSpec, ...]:
        """`pixels`, uint8 (B, H, W, 3)."""
        pixels = (batch, self.height, self.width, 3)
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


class TablePreprocessing(_Preprocessing):
    """Rows of numbers, float32 (B, columns), unchanged. Any scaling is part of the module."""

    kind: Literal["table"] = "table"
    columns: tuple[str, ...]
    """The columns' names, in the order in which the module takes them."""

    def input_specs(self, batch: Axis) -> tuple[TensorSpec, ...]:
        """`features`, float32 (B, columns)."""
        features = (batch, len(self.columns))
        return (TensorSpec(name="features", dtype="float32", shape=features),)


class TensorPreprocessing(_Preprocessing):
    """Tensors, unchanged: for a model that no other kind fits, and for tasks of plugins."""

    kind: Literal["tensors"] = "tensors"
    inputs: tuple[TensorSpec, ...]
    """What the program takes, in the module's order; the first axis of each is the batch."""

    def input_specs(self, batch: Axis) -> tuple[TensorSpec, ...]:
        """The tensors as they are described."""
        return self.inputs


Preprocessing = Annotated[
    ImagePreprocessing | TextPreprocessing | TablePreprocessing | TensorPreprocessing,
    Field(discriminator="kind"),
]
"""Any of the four kinds, told apart by their field `kind`."""


class Tolerance(Record):
    """How far a candidate's outputs may be from eager PyTorch's for it to be served."""

    relative_error: float
    """The most that ||candidate - eager|| may be by the spread of eager's outputs over the
    evaluation rows, ||eager - its mean||. A program that always answers the same has 1. A single
    row may have four times as much."""
    top1_agreement: float = 0.0
    """The least share of rows with the same class, from 0 to 1; for classifiers, and for outputs
    that are integers or booleans."""
    cosine: float = -1.0
    """The least cosine between a row's outputs and eager's, from -1 to 1, for the worst row; for
    classifiers and embeddings."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Inputs in the form in which the program takes them: pixels, token ids, numbers."""

    arrays: tuple[np.ndarray, ...]
    """One array for each of the recipe's inputs, (N, …), in its dtype and shape: uint8 (N, H, W, 3)
    for images, int64 (N, T) twice for texts, float32 (N, columns) for tables."""
    targets: np.ndarray | None = None
    """The true class of each row, int64 (N,), if it is known. With it the certificate states
    accuracy too."""

    def __len__(self) -> int:
        return len(self.arrays[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Real inputs, for calibration or for evaluation."""

    description: str
    """What they are, for the certificate: "16 crops of each of 6 photos"."""
    load: Callable[["Recipe"], Rows]
    """Loads them. It is called once in each export, with the recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a state_dict becomes a served model. A recipe's file defines `recipe = Recipe(…)`.

    Raises InvalidRecipe for a field that cannot be used.
    """

    name: str
    """The model's name in URLs: letters, digits, `_`, `-` and `.`, at most 128."""
    version: str = "1.0"
    """The version in URLs, with the same characters. `shipway export --version` overrides it."""
    task: str = "image_classification"
    """What requests and answers look like: `image_classification`, `text_classification`,
    `text_embedding`, `tabular_classification`, `tensors`, or a task that a plugin registers."""
    module: "Callable[[], nn.Module]"
    """Builds the architecture. The weights are loaded into it afterwards.

    Its `forward` takes normalised pixels, float32 (B, 3, H, W), for images; ids and mask, both
    int64 (B, T), for texts; numbers, float32 (B, columns), for tables; and for tensors what
    `TensorPreprocessing.inputs` says. If all inputs have the names of its parameters, they are
    passed by name, else in order. It returns a tensor (B, …), or several in a tuple, a dict or a
    dataclass, nested as you like.
    """
    weights: Callable[[], str | Path | None]
    """The path of the state_dict, .pth or .safetensors. `shipway export --weights` overrides it.
    None means random weights, which are good for measuring speed only."""
    preprocessing: ImagePreprocessing | TextPreprocessing | TablePreprocessing | TensorPreprocessing
    """How requests become the program's inputs. It travels with the model, as data."""
    batch: Axis = field(default_factory=lambda: Axis(name="batch", min=1, max=32))
    """How many rows one run of the program may hold."""
    labels: Callable[[], Sequence[str]] = tuple
    """The classes' names, in the order of the module's outputs; empty for a model that does not
    classify."""
    calibration: Inputs
    """What the value ranges of int8 programs are taken from."""
    evaluation: Inputs
    """What every candidate is compared with eager PyTorch on. It must hold no row of
    `calibration`."""
    files: Callable[[], Mapping[str, Path]] = dict
    """Other files that serving needs, such as a tokenizer, by their names in the artifact's folder
    files/."""
    plugins: Sequence[str] = ()
    """Modules that register a task, a technique or a runtime backend, such as `["keypoints"]` for
    keypoints.py beside the recipe. They become part of the artifact and of its archive."""
    outputs: Sequence[str] | Mapping[str, str] = ()
    """Which of the module's outputs are served, all of them if empty: names such as `["logits"]`,
    or the names in answers by those of the module, `{"output_1": "logits"}`. An item of a dict or
    a dataclass has its key as its name, an item of a tuple `output_0`, `output_1`, …, and a nested
    one both: `hidden_states_3`."""
    scores: Scores = "logits"
    """What a classifier's outputs are, see `Scores`."""
    top_k: int = 5
    """How many classes an answer holds, the most probable first; for classifiers."""
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    """By precision: "fp32", "bf16", "fp16", "int8". A precision that is not named keeps the default
    in `shipway.export.verify.TOLERANCES`."""

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        check_name(self.version, "version")
        check_name(self.task, "task")
        for name, kind, expected in (
            ("preprocessing", _Preprocessing, "ImagePreprocessing(…) or another of the four kinds"),
            ("batch", Axis, 'Axis(name="batch", min=1, max=32)'),
            ("calibration", Inputs, 'Inputs(description="…", load=…)'),
            ("evaluation", Inputs, 'Inputs(description="…", load=…)'),
        ):
            if not isinstance(getattr(self, name), kind):
                raise InvalidRecipe(
                    f"The recipe's {name} is {_described(getattr(self, name))}. Give {expected}."
                )
        for name in ("module", "weights", "labels", "files"):
            if not callable(getattr(self, name)):
                raise InvalidRecipe(
                    f"The recipe's {name} is {_described(getattr(self, name))}. Give a function "
                    f"without arguments that returns it, such as `{name}=lambda: …`."
                )
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, int) or self.top_k < 1:
            raise InvalidRecipe(
                f"The recipe's top_k is {_described(self.top_k)}. Give a whole number of at "
                "least 1."
            )
        self._check_outputs()
        self._check_plugins()

    def _check_outputs(self) -> None:
        if self.scores not in get_args(Scores):
            raise InvalidRecipe(
                f"The recipe's scores are {_described(self.scores)}. Give one of "
                f"{', '.join(map(repr, get_args(Scores)))}."
            )
        names = [*self.outputs, *self.served_outputs.values()]
        if isinstance(self.outputs, str) or not all(isinstance(name, str) for name in names):
            raise InvalidRecipe(
                f"The recipe's outputs are {_described(self.outputs)}. Give a list of names, such "
                'as ["logits"], or a dict such as {"output_1": "logits"}.'
            )
        for name in self.served_outputs.values():
            check_name(name, "output")
        if len(set(self.served_outputs.values())) != len(self.outputs):
            raise InvalidRecipe("Two of the recipe's outputs have the same name. Name each once.")

    @property
    def served_outputs(self) -> dict[str, str]:
        """The names in answers by those of the module's outputs; empty for all outputs."""
        if isinstance(self.outputs, Mapping):
            return dict(self.outputs)
        return {name: name for name in self.outputs}

    def _check_plugins(self) -> None:
        if isinstance(self.plugins, str) or not isinstance(self.plugins, Sequence):
            raise InvalidRecipe(
                f"The recipe's plugins are {_described(self.plugins)}. Give a list of names, such "
                'as ["keypoints"] for keypoints.py next to the recipe.'
            )
        for name in self.plugins:
            if not isinstance(name, str) or not PLUGIN_NAME.fullmatch(name):
                raise InvalidRecipe(
                    f"The recipe's plugins contain {_described(name)}. Give the name of a "
                    "module next to the recipe, in lower case, without folder and without .py, "
                    'for example "keypoints".'
                )

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the programs take, which is also what a v2 request holds."""
        return self.preprocessing.input_specs(self.batch)


def check_name(text: str, role: str) -> None:
    """Raises InvalidRecipe unless `text` can be a name or a version in a manifest and in a URL."""
    try:
        TypeAdapter(Name).validate_python(text)
    except ValidationError as error:
        raise InvalidRecipe(
            f"The {role} {text!r} cannot be used. Use up to 128 letters, digits, `_`, `-` and `.`, "
            "with a letter or digit first."
        ) from error


def _described(value: object) -> str:
    return f"{str(value)[:60]!r}, of type {type(value).__name__}"
