"""`shipway new`: a recipe of one's own to start from, which exports as it is."""

import keyword
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from shipway.export.errors import ExportError


class CannotStartRecipe(ExportError):
    """The name is of no use, or taken."""


TEMPLATE = '''\
"""__NAME__: as it is, `shipway export __NAME__.py` works. Change the lines marked with <--."""

from pathlib import Path

import skimage.data  # some real photos, to start with
import torch

from shipway.export.photos import crops  # export/texts.py does the same for sentences
from shipway.recipe import ImagePreprocessing, Recipe

PHOTOS = Path(skimage.data.__file__).parent  # <-- the folder of your own photos
LABELS = ["first", "second", "third"]  # <-- your classes, in the order of the outputs


def module() -> torch.nn.Module:  # <-- your architecture; it may come from a file beside this one
    torch.manual_seed(0)  # random weights must be the same ones each time; trained ones are
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 16, stride=16),  # takes normalised pixels (B, 3, height, width)
        torch.nn.Flatten(),
        torch.nn.Linear(16 * 4 * 4, len(LABELS)),  # gives logits (B, classes)
    )


recipe = Recipe(
    name="__NAME__",  # what clients ask for
    module=module,  # built first; then the weights are loaded into it
    weights=lambda: None,  # <-- "model.pth" or .safetensors, a state_dict; None: random ones
    preprocessing=ImagePreprocessing(  # <-- exactly as in training: a slip here costs accuracy
        height=64,  # what the module takes
        width=64,
        crop_fraction=1.0,  # how much of the shorter side the centred square keeps
        resample="bilinear",  # or "bicubic", or "lanczos"
        mean=(123.7, 116.3, 103.5),  # of red, green and blue, from 0 to 255
        std=(58.4, 57.1, 57.4),
        source="where it is written that the weights were trained with this",
    ),
    labels=lambda: LABELS,
    calibration=crops([PHOTOS / "coffee.png"], each=32, seed=0),  # <-- int8 ranges come from it
    evaluation=crops([PHOTOS / "chelsea.png"], each=32, seed=1),  # <-- other photos: the proof
)
'''


def new_recipe(name: str, folder: Path) -> Path:
    """Writes NAME.py into `folder`; raises CannotStartRecipe."""
    path = folder / f"{name}.py"
    if not (name.isascii() and name.isidentifier() and name[0].isalpha()):
        raise CannotStartRecipe(
            f"{name!r} can be no recipe's name: it becomes a Python file. "
            "Take letters, digits and _, and begin with a letter: shipway new my_model"
        )
    if path.exists():
        raise CannotStartRecipe(
            f"{path} is there already and stays as it is. Take another name, or remove it first."
        )
    if keyword.iskeyword(name) or name in sys.stdlib_module_names | packages_distributions().keys():
        raise CannotStartRecipe(
            f"A file {name}.py would hide the {name!r} that Python or a package brings. "
            f"Take another name: shipway new my_{name}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(TEMPLATE.replace("__NAME__", name))
    return path
