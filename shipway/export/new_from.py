"""`shipway new NAME --from SOURCE MODEL`: a recipe of a model that a library describes.

What the library says of preprocessing and labels is written into the recipe, so that it can be read
and corrected there.
"""

import difflib
from collections.abc import Callable, Mapping

from shipway.export.new import CannotStartRecipe
from shipway.export.new_from_hf import from_hf
from shipway.export.new_parts import IMAGES, filled, library, preprocessing_fields
from shipway.recipe import ImagePreprocessing


def recipe_from(source: str, model: str, name: str) -> str:
    """The text of a recipe called `name`. Raises CannotStartRecipe."""
    if source not in SOURCES:
        raise CannotStartRecipe(
            f"{source!r} is no source of models. Give one of: {', '.join(SOURCES)}."
        )
    return SOURCES[source](model, name)


def _from_torchvision(model: str, name: str) -> str:
    models = library("torchvision.models", "torchvision")
    known = models.list_models(module=models)  # those that classify
    if model not in known:
        near = difflib.get_close_matches(model, known, 3, cutoff=0.0)
        raise CannotStartRecipe(
            f"torchvision has no model {model!r} that classifies images. Similar names: "
            f"{', '.join(near)}."
        )
    weights = models.get_model_weights(model).DEFAULT
    preset = weights.transforms()
    (crop,), (resize,) = preset.crop_size, preset.resize_size
    spec = ImagePreprocessing(
        height=crop,
        width=crop,
        crop_fraction=crop / resize,
        resample=preset.interpolation.value,
        mean=tuple(255 * each for each in preset.mean),
        std=tuple(255 * each for each in preset.std),
        source=f"torchvision.models.{weights}.transforms()",
    )
    # What its builder does where it loads the weights itself.
    extra = ""
    if model in ("googlenet", "inception_v3"):
        extra = ", transform_input=True, init_weights=False"
    elif model.startswith("vit_"):
        extra = f", image_size={crop}"
    return filled(
        IMAGES,
        WHAT=f"{model} of torchvision",
        NAME=name,
        IMPORTS="import torch\nfrom torchvision.models import get_model, get_model_weights",
        CONSTANTS=f'INFO = get_model_weights("{model}").DEFAULT.meta  # <-- of ImageNet\n',
        MODULE=f'get_model("{model}", weights=None{extra})  # <-- your own: num_classes=…',
        WEIGHTS=f"None,  # <-- path of a checkpoint; ImageNet's: {weights.url}",
        OUTPUTS="",
        LABELS='INFO["categories"]',
        PREPROCESSING=preprocessing_fields(spec, f"{crop} / {resize}"),
    )


SOURCES: Mapping[str, Callable[[str, str], str]] = {
    "torchvision": _from_torchvision,
    "hf": from_hf,
}
"""By their names: what writes a recipe of a model that is found there."""
