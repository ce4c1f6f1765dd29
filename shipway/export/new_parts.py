"""What the recipes have in common that `shipway new --from` writes."""

import importlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from shipway.artifact.bundle import problems_in
from shipway.export.new import CannotStartRecipe
from shipway.recipe import ImagePreprocessing

T = TypeVar("T", bound=BaseModel)

IMAGES = '''\
"""__WHAT__. `shipway export __NAME__.py` works without changes.
Then change the lines marked with <--."""

__IMPORTS__

from shipway.export.photos import crops, example_photos
from shipway.recipe import ImagePreprocessing, Recipe

PHOTOS = example_photos(8)  # <-- your own: sorted(Path("my_photos").glob("*.jpg"))
__CONSTANTS__

def module() -> torch.nn.Module:
    torch.manual_seed(0)  # random weights have to be the same in every process
    return __MODULE__


recipe = Recipe(
    name="__NAME__",  # the model's name in requests
    module=module,  # built first; then the weights are loaded into it
    weights=lambda: __WEIGHTS__
__OUTPUTS__    preprocessing=ImagePreprocessing(
__PREPROCESSING__    ),
    labels=lambda: __LABELS__,
    calibration=crops(PHOTOS[:4], each=16, seed=0),  # <-- inputs for int8 calibration
    evaluation=crops(PHOTOS[4:], each=16, seed=1),  # <-- different photos, to compare with PyTorch
)
'''


def preprocessing_fields(spec: ImagePreprocessing, crop: str | None) -> str:
    """The fields of an ImagePreprocessing. `crop` is its crop_fraction as a recipe writes it; None
    if it squashes."""

    def listed(values: Sequence[float]) -> str:
        return f"({', '.join(f'{each:.6g}' for each in values)},)"

    lines = [
        f"height={spec.height},",
        f"width={spec.width},",
        f"crop_fraction={crop}," if crop else 'fit="squash",',
        *([f"channels={spec.channels},"] if spec.channels != 3 else []),
        f'resample="{spec.resample}",',
        f"mean={listed(spec.mean)},  # of each channel, from 0 to 255",
        f"std={listed(spec.std)},",
        f'source="{spec.source}",',
    ]
    return "".join(f"        {line}\n" for line in lines)


def library(module: str, package: str) -> Any:
    """An installed module. Raises CannotStartRecipe."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise CannotStartRecipe(
            f"{package} is not installed, and the recipe would import it. Install it beside "
            f"Shipway: pip install {package}."
        ) from error


def filled(template: str, **values: str) -> str:
    """A template with its `__KEYS__` replaced."""
    return re.sub(r"__([A-Z]+)__", lambda found: values[found[1]], template)


def checked(kind: type[T], content: Mapping[str, Any], path: Path) -> T:
    """What a file of settings says, checked. Raises CannotStartRecipe."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise CannotStartRecipe(f"{path} cannot be followed: {problems_in(error)}") from error


def json_of(path: Path, kind: type = dict) -> Any:
    """An object of a JSON file, or a list of objects. Raises CannotStartRecipe."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CannotStartRecipe(
            f"{path} cannot be read: {error}. Give the folder that `save_pretrained` wrote."
        ) from error
    items = found if isinstance(found, list) else []
    if not isinstance(found, kind) or not all(isinstance(each, dict) for each in items):
        raise CannotStartRecipe(f"{path} is not what `save_pretrained` writes.")
    return found
