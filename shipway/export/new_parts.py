"""What the recipes have in common that `shipway new --from` writes."""

import importlib
import re
from typing import Any

from shipway.export.new import CannotStartRecipe

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


def preprocessing_fields(
    *,
    height: int,
    width: int,
    crop: str | None,
    resample: str,
    mean: list[float],
    std: list[float],
    source: str,
    channels: int = 3,
) -> str:
    """The fields of an ImagePreprocessing; without `crop`, it squashes."""

    def listed(values: list[float]) -> str:
        return f"({', '.join(f'{each:.6g}' for each in values)},)"

    lines = [
        f"height={height},",
        f"width={width},",
        f"crop_fraction={crop}," if crop else 'fit="squash",',
        *([f"channels={channels},"] if channels != 3 else []),
        f'resample="{resample}",',
        f"mean={listed(mean)},  # of each channel, from 0 to 255",
        f"std={listed(std)},",
        f'source="{source}",',
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
