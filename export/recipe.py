"""A recipe: everything that export must be told of a model, in one file of data."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
from torch import nn

from export.errors import UnknownRecipe
from shipway.artifact.certificate import Tolerance
from shipway.artifact.manifest import Axis, ImagePreprocessing, TensorSpec

__all__ = ["Axis", "ImagePreprocessing", "Inputs", "Recipe", "TensorSpec", "find_recipe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Real inputs for calibrating or comparing, as the wire carries them."""

    description: str
    """What they are, for the certificate: "112 crops of 7 photos"."""
    load: Callable[[ImagePreprocessing], np.ndarray]
    """Returns rows in the dtype and shape of the recipe's input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a state_dict becomes a served model."""

    name: str
    """What clients ask for: letters, digits, `_`, `-` and `.`."""
    version: str = "1.0"
    module: Callable[[], nn.Module]
    """Builds the architecture; its weights are loaded afterwards."""
    weights: Callable[[], str | Path]
    """The path of the state_dict, .pth or .safetensors, unless --weights gives another."""
    batch: Axis = field(default_factory=lambda: Axis(name="batch", min=1, max=32))
    """How many rows one run may hold."""
    preprocessing: ImagePreprocessing
    labels: Callable[[], Sequence[str]]
    """The classes' names, in the order of the module's outputs."""
    calibration: Inputs
    """What int8 ranges are taken from."""
    evaluation: Inputs
    """What candidates are compared with eager on: nothing that calibration saw."""
    top_k: int = 5
    tolerances: dict[str, Tolerance] = field(default_factory=dict)
    """By precision; what is not named keeps the default of export/verify.py."""

    @property
    def input(self) -> TensorSpec:
        """Pixels as they come out of decoding: uint8, (B, H, W, 3)."""
        height, width = self.preprocessing.height, self.preprocessing.width
        return TensorSpec(name="pixels", dtype="uint8", shape=(self.batch, height, width, 3))


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
    except Exception as error:
        raise UnknownRecipe(
            f"{path} could not be read as a recipe: {type(error).__name__}: {error}"
        ) from error
    return module
