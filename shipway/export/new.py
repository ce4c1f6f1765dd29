"""`shipway new`: a recipe to start from, which exports as it is."""

import keyword
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from shipway.export.errors import ExportError


class CannotStartRecipe(ExportError):
    """The name cannot be used, or the file exists."""


TEMPLATE = '''\
"""`shipway export __NAME__.py` works as it is. Then change the lines marked with <--."""

import torch

from shipway.export.photos import crops, example_photos  # for sentences: shipway.export.texts
from shipway.recipe import ImagePreprocessing, Recipe

PHOTOS = example_photos(8)  # <-- your own: sorted(Path("my_photos").glob("*.jpg"))
LABELS = ["first", "second", "third"]  # <-- your classes, in the order of the outputs


def module() -> torch.nn.Module:  # <-- your architecture; it may come from a file beside this one
    torch.manual_seed(0)  # random weights have to be the same in every process
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 16, stride=16),  # takes normalised pixels (B, 3, height, width)
        torch.nn.Flatten(),
        torch.nn.Linear(16 * 4 * 4, len(LABELS)),  # gives logits (B, classes)
    )


recipe = Recipe(
    name="__NAME__",  # what clients ask for
    module=module,  # built first; then the weights are loaded into it
    weights=lambda: None,  # <-- "model.pth" or .safetensors, a state_dict; None: random ones
    preprocessing=ImagePreprocessing(  # <-- exactly as in training, or accuracy suffers
        height=64,  # what the module takes
        width=64,
        crop_fraction=1.0,  # how much of the shorter side the centred square keeps
        resample="bilinear",  # or "bicubic", or "lanczos"
        mean=(123.7, 116.3, 103.5),  # of red, green and blue, from 0 to 255
        std=(58.4, 57.1, 57.4),
        source="where it is written that the weights were trained with this",
    ),
    labels=lambda: LABELS,
    calibration=crops(PHOTOS[:4], each=16, seed=0),  # <-- for the ranges of int8
    evaluation=crops(PHOTOS[4:], each=16, seed=1),  # <-- other photos, for the comparison
)
'''


def new_recipe(name: str, folder: Path) -> Path:
    """Writes NAME.py into `folder`; raises CannotStartRecipe."""
    path = folder / f"{name}.py"
    if not (name.isascii() and name.isidentifier() and name[0].isalpha()):
        raise CannotStartRecipe(
            f"{name!r} cannot be the name of a recipe, which is a Python file. "
            "Use letters, digits and _, a letter first: shipway new my_model"
        )
    if path.exists():
        raise CannotStartRecipe(
            f"{path} exists already and was not changed. Use another name, or remove it first."
        )
    if keyword.iskeyword(name) or name in sys.stdlib_module_names | packages_distributions().keys():
        raise CannotStartRecipe(
            f"A file {name}.py would hide the module {name!r} of Python or of an installed "
            f"package. Use another name: shipway new my_{name}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(TEMPLATE.replace("__NAME__", name))
    return path
