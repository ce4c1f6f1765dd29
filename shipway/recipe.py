"""What a recipe is written with. A recipe says how a trained state_dict becomes a served model.

    from shipway.recipe import Axis, ImagePreprocessing, Inputs, Recipe, Rows

    recipe = Recipe(name="flowers", module=Net, weights=lambda: "flowers.pth", …)

Axes: B = rows, H and W = pixels, C = channels, T = tokens, N = rows of an evaluation.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from pydantic import TypeAdapter, ValidationError, field_validator

from shipway.errors import ShipwayError
from shipway.preprocessing import Axis as Axis
from shipway.preprocessing import Column as Column
from shipway.preprocessing import Dtype as Dtype
from shipway.preprocessing import ImagePreprocessing as ImagePreprocessing
from shipway.preprocessing import Name as Name
from shipway.preprocessing import Positive as Positive
from shipway.preprocessing import Preprocessing as Preprocessing
from shipway.preprocessing import Record as Record
from shipway.preprocessing import Sha256 as Sha256
from shipway.preprocessing import Size as Size
from shipway.preprocessing import TablePreprocessing as TablePreprocessing
from shipway.preprocessing import TensorPreprocessing as TensorPreprocessing
from shipway.preprocessing import TensorSpec as TensorSpec
from shipway.preprocessing import TextPreprocessing as TextPreprocessing
from shipway.preprocessing import _Preprocessing

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "Axis",
    "Checkpoint",
    "Column",
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

Scores = Literal["logits", "probabilities", "binary", "multi_label"]
"""What a classifier's outputs are: logits of which softmax makes probabilities; probabilities; one
logit, for the second of two classes; a logit for each of several independent labels."""
PLUGIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")


class InvalidRecipe(ShipwayError):
    """A recipe that cannot be read, or whose fields are wrong."""


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
    embeddings."""


class Checkpoint(Record):
    """Where in a checkpoint the weights are, and what they are called there, for those in which it
    is not found by itself. It is: the entry that fits the module, if only one does; prefixes such
    as `module.` and `_orig_mod.`; tied weights that are saved once."""

    entry: str | None = None
    """Which entry holds the weights, if several fit: "ema_state_dict", or "ema.model" for an entry
    of an entry."""
    prefix: str = ""
    """Only the tensors whose names begin with this are loaded, and their names without it: "model."
    if the checkpoint also has those of a loss."""
    rename: Mapping[str, str] = {}
    r"""Regular expressions and what replaces them in each name, in this order, as by `re.sub`:
    {r"^fc\.": "head."}."""
    ignored: tuple[str, ...] = ()
    """Patterns of names in the checkpoint, after `rename`, that are not loaded: ("aux_head.*",).
    They are written as for `fnmatch`."""
    missing: tuple[str, ...] = ()
    """Patterns of the module's names that the checkpoint may lack. They keep the values that the
    module begins with."""

    @field_validator("rename")
    @classmethod
    def _compiles(cls, rename: Mapping[str, str]) -> Mapping[str, str]:
        for pattern, replacement in rename.items():
            try:
                re.compile(pattern).sub(replacement, "")
            except (re.error, IndexError) as error:
                raise ValueError(
                    f"{pattern!r} and {replacement!r} are no regular expression and its "
                    f"replacement: {error}"
                ) from error
        return rename


@dataclass(frozen=True, slots=True)
class Rows:
    """Inputs in the form in which the program takes them: pixels, token ids, numbers."""

    arrays: tuple[np.ndarray, ...]
    """One array for each of the recipe's inputs, (N, …), in its dtype and shape: uint8 (N, H, W, 3)
    for images, int64 (N, T) twice for texts, float32 (N, columns) for tables."""
    targets: np.ndarray | None = None
    """The true class of each row, int64 (N,), if it is known. With it the certificate states
    accuracy too."""
    groups: np.ndarray | None = None
    """A number for each row, int (N,): rows of one photo, patient or document share it and count as
    one observation, since what is lost on one of them is often lost on all. None if every row is of
    its own."""

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
    """The registered name of a task, which says what requests and answers look like.
    docs/requests.md has the built-in tasks; a plugin may register another."""
    module: "Callable[[], nn.Module]"
    """Builds the architecture. The weights are loaded into it afterwards.

    Its `forward` takes normalised pixels, float32 (B, 3, H, W), for images; ids and mask, both
    int64 (B, T), for texts; numbers, float32 (B, columns), for tables; and for tensors what
    `TensorPreprocessing.inputs` says. If all inputs have the names of its parameters, they are
    passed by name, else in order. It returns a tensor (B, …), or several in a tuple, a dict or a
    dataclass, nested as you like.
    """
    weights: Callable[[], str | Path | None]
    """The path of the checkpoint: .pth, .safetensors, an index of shards, or a folder of Hugging
    Face's libraries. `shipway export --weights` overrides it. None means random weights, which are
    good for measuring speed only."""
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    """Where in it the weights are, if that is not found by itself."""
    preprocessing: Preprocessing
    """How requests become the program's inputs. It travels with the model, as data."""
    batch: Axis = field(default_factory=lambda: Axis(name="batch", min=1, max=32))
    """How many rows one run of the program may hold."""
    labels: Callable[[], Sequence[str]] = tuple
    """The names of the classes, or of a regression's values, in the order of the module's outputs.
    Empty if there are none."""
    calibration: Inputs
    """What the value ranges of int8 programs are taken from."""
    evaluation: Inputs
    """What every candidate is compared with eager PyTorch on. It must hold no row of
    `calibration`."""
    branch_inputs: Inputs | None = None
    """Inputs that take branches of `forward` which no evaluation input takes, such as an empty one.
    Every candidate is compared with eager PyTorch on each of them alone. Without them, TorchScript
    is refused where its tracer saw that the inputs decide a branch."""
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
    budget: float | None = None
    """The points that a program may lose compared with eager PyTorch: of accuracy if the evaluation
    rows have targets. docs/verification.md says what else. `shipway export --accuracy-budget`
    overrides it. None for `shipway.limits.DEFAULT_BUDGET`."""

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        check_name(self.version, "version")
        check_name(self.task, "task")
        optional = ("branch_inputs",) if self.branch_inputs is None else ()
        for name, kind, expected in (
            ("preprocessing", _Preprocessing, "ImagePreprocessing(…) or one of another kind"),
            ("checkpoint", Checkpoint, 'Checkpoint(entry="…")'),
            ("batch", Axis, 'Axis(name="batch", min=1, max=32)'),
            ("calibration", Inputs, 'Inputs(description="…", load=…)'),
            ("evaluation", Inputs, 'Inputs(description="…", load=…)'),
            ("branch_inputs", Inputs, 'Inputs(description="…", load=…)'),
        ):
            if not isinstance(getattr(self, name), kind) and name not in optional:
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
        for precision, tolerance in self.tolerances.items():
            if not isinstance(tolerance, Tolerance):
                raise InvalidRecipe(
                    f"The recipe's tolerance for {precision} is {_described(tolerance)}. Give "
                    f'tolerances={{"{precision}": Tolerance(relative_error=0.001)}}.'
                )
        budget = self.budget
        if budget is not None and (
            isinstance(budget, bool)
            or not isinstance(budget, int | float)
            or not 0 <= budget < float("inf")
        ):
            raise InvalidRecipe(
                f"The recipe's budget is {_described(budget)}. Give the percentage points that a "
                "program may lose, such as 1.5."
            )
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
