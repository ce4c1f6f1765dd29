"""A recipe: everything that export must be told of a model, in one file of data."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
from pydantic import TypeAdapter, ValidationError
from torch import nn

from export.errors import UnknownRecipe
from shipway.artifact.bundle import problems_in
from shipway.artifact.certificate import Tolerance
from shipway.artifact.manifest import (
    Axis,
    ImagePreprocessing,
    Name,
    TablePreprocessing,
    Task,
    TensorPreprocessing,
    TensorSpec,
    TextPreprocessing,
    is_classifier,
)

__all__ = [
    "Axis",
    "ImagePreprocessing",
    "Inputs",
    "Recipe",
    "Rows",
    "TablePreprocessing",
    "TensorPreprocessing",
    "TensorSpec",
    "TextPreprocessing",
    "Tolerance",
    "find_recipe",
]


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
    task: Task = "image_classification"
    module: Callable[[], nn.Module]
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
    top_k: int = 5
    tolerances: dict[str, Tolerance] = field(default_factory=dict)
    """By precision; what is not named keeps the default of export/verify.py."""

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

    @property
    def output(self) -> str:
        """The name of the programs' only output."""
        if is_classifier(self.task):
            return "logits"
        return "embedding" if self.task == "text_embedding" else "output"


def check_name(text: str, role: str) -> None:
    """Raises UnknownRecipe unless `text` can be a name or a version in a manifest and in a URL."""
    try:
        TypeAdapter(Name).validate_python(text)
    except ValidationError as error:
        raise UnknownRecipe(
            f"The {role} {text!r} cannot be used: letters, digits, `_`, `-` and `.` can, "
            "a letter or digit first."
        ) from error


def find_recipe(name: str) -> tuple[Recipe, Path]:
    """The recipe of that name among export/recipes/, or in the file of that path.

    Raises UnknownRecipe.
    """
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise UnknownRecipe(f"There is no file {path}.")
        module = _import_file(path)
    else:
        from export import recipes

        folder = Path(recipes.__path__[0])
        known = sorted(each.stem for each in folder.glob("[a-z]*.py"))
        if name not in known:
            raise UnknownRecipe(
                f"There is no recipe {name!r}. There are {', '.join(known)}; "
                "a recipe of your own is given by its path: shipway export my_recipe.py"
            )
        module = importlib.import_module(f"export.recipes.{name}")
        path = folder / f"{name}.py"
    recipe = getattr(module, "recipe", None)
    if not isinstance(recipe, Recipe):
        raise UnknownRecipe(
            f"{path} defines no `recipe = Recipe(...)`. "
            "export/recipes/efficientnet_lite0.py shows one."
        )
    return recipe, path.resolve()


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.resolve().parent))  # a recipe may import the model beside it
    try:
        spec.loader.exec_module(module)
    except UnknownRecipe:
        raise
    except ValidationError as error:
        raise UnknownRecipe(f"{path}: {error.title} is not right: {problems_in(error)}") from error
    except Exception as error:
        raise UnknownRecipe(
            f"{path} could not be read as a recipe: {type(error).__name__}: {error}"
        ) from error
    return module
