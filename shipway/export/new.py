"""`shipway new`: a recipe to start from, which can be exported without changes."""

import keyword
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from shipway.export.errors import ExportError


class CannotStartRecipe(ExportError):
    """The name cannot be used, or the file exists."""


TEMPLATE = '''\
"""`shipway export __NAME__.py` works without changes. Then change the lines marked with <--."""

import torch

from shipway.export.photos import crops, example_photos  # for sentences: shipway.export.texts
from shipway.recipe import ImagePreprocessing, Recipe

PHOTOS = example_photos(8)  # <-- your own: sorted(Path("my_photos").glob("*.jpg"))
LABELS = ["first", "second", "third"]  # <-- your classes, in the order of the outputs


def module() -> torch.nn.Module:  # <-- your architecture; it may be in a file next to this one
    torch.manual_seed(0)  # random weights have to be the same in every process
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 16, stride=16),  # takes normalised pixels (B, 3, height, width)
        torch.nn.Flatten(),
        torch.nn.Linear(16 * 4 * 4, len(LABELS)),  # gives logits (B, classes)
    )


recipe = Recipe(
    name="__NAME__",  # the model's name in requests
    module=module,  # built first; then the weights are loaded into it
    weights=lambda: None,  # <-- path of a state_dict (.pth, .safetensors); None: random weights
    preprocessing=ImagePreprocessing(  # <-- exactly as in training, or accuracy suffers
        height=64,  # what the module takes
        width=64,
        crop_fraction=1.0,  # side of the centre crop, as a fraction of the shorter side
        resample="bilinear",  # or "bicubic", or "lanczos"
        mean=(123.7, 116.3, 103.5),  # of red, green and blue, from 0 to 255
        std=(58.4, 57.1, 57.4),
        source="where the training preprocessing is documented: a URL, a paper or a file",
    ),
    labels=lambda: LABELS,
    calibration=crops(PHOTOS[:4], each=16, seed=0),  # <-- inputs for int8 calibration
    evaluation=crops(PHOTOS[4:], each=16, seed=1),  # <-- different photos, to compare with PyTorch
)
'''


def new_recipe(name: str, folder: Path, text: str | None = None) -> Path:
    """Writes NAME.py into `folder`, with the template if no text is given; raises
    CannotStartRecipe."""
    path = folder / f"{name}.py"
    if not (name.isascii() and name.isidentifier() and name[0].isalpha()):
        raise CannotStartRecipe(
            f"{name!r} cannot be used as a recipe name. Use letters, digits and _, starting "
            "with a letter, for example: shipway new my_model"
        )
    if path.exists():
        raise CannotStartRecipe(
            f"{path} exists already and was not changed. Use another name, or remove it first."
        )
    # Installed editable, a package is found by its path alone and packages_distributions lacks it.
    own = __name__.partition(".")[0]
    taken = sys.stdlib_module_names | packages_distributions().keys() | {own}
    if keyword.iskeyword(name) or name in taken:
        raise CannotStartRecipe(
            f"A file {name}.py would hide the module {name!r} of Python or of an installed "
            f"package. Use another name, for example: shipway new my_{name}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(TEMPLATE.replace("__NAME__", name) if text is None else text)
    return path
