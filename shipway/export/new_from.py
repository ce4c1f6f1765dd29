"""`shipway new NAME --from SOURCE MODEL`: a recipe of a model that a library describes.

What the library says of preprocessing and labels is written into the recipe, so that it can be read
and corrected there.
"""

import difflib
import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shipway.errors import ShipwayError
from shipway.export.checkpoint_files import files_of
from shipway.export.new import CannotStartRecipe

_PIL_FILTERS = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""What preprocessor_config.json writes for Pillow's filters."""
_TEXTS_OF = {
    "SequenceClassification": "text_classification",
    "TokenClassification": "token_classification",
    "Model": "text_embedding",
}
_KINDS = ("ImageClassification", *_TEXTS_OF)
"""How the names of the architectures end that there are tasks for."""
_MOST_LABELS = 20
"""Labels that a recipe lists itself; more are read from where they are."""

_IMAGES = '''\
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

_TEXTS = '''\
"""__WHAT__. `shipway export __NAME__.py` works without changes.
Then change the lines marked with <--."""

import inspect
import logging
import threading
import typing
from pathlib import Path

import torch
from transformers import AutoConfig, __AUTO__

from shipway.export.texts import passages
from shipway.recipe import Axis, Recipe, TextPreprocessing

FOLDER = Path("__FOLDER__")
CONFIG = AutoConfig.from_pretrained(FOLDER, local_files_only=True)
MODULES = (logging, inspect, typing, threading)
PROSE = [Path(each.__file__) for each in MODULES]  # <-- files with texts like those of requests

__CLASS__
def module() -> torch.nn.Module:
    torch.manual_seed(0)  # what the folder lacks has to be the same in every process
    return __MODULE__


recipe = Recipe(
    name="__NAME__",  # the model's name in requests
    task="__TASK__",
    module=module,  # built first; then the weights are loaded into it
    weights=lambda: None,  # `from_pretrained` has loaded them
__OUTPUTS__    batch=Axis(name="batch", min=1, max=32),
    preprocessing=TextPreprocessing(
        tokenizer="files/tokenizer.json",
        max_length=__LENGTH__,
        too_long="truncate",  # or "refuse"
        pad_id=__PAD__,
        source="tokenizer.json and config.json of the model's folder",
    ),
    files=lambda: {"tokenizer.json": FOLDER / "tokenizer.json"},
    labels=lambda: __LABELS__,
    calibration=passages(PROSE[:2], rows=32, seed=0, of="documentation of Python"),
    evaluation=passages(PROSE[2:], rows=32, seed=1, of="documentation of Python"),
)
'''

_POOLED = '''
class Pooled(torch.nn.Module):
    """The mean of the tokens' vectors__NORM__.

    B = texts, T = tokens, D = numbers of a vector.
    """

    def __init__(self) -> None:
        super().__init__()
        self.model = AutoModel.from_pretrained(FOLDER, local_files_only=True)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        tokens_BTD = self.model(input_ids, attention_mask).last_hidden_state
        weight_BT1 = attention_mask[:, :, None].to(tokens_BTD.dtype)
        mean_BD = (tokens_BTD * weight_BT1).sum(1) / weight_BT1.sum(1)
        return __RETURNED__

'''


def recipe_from(source: str, model: str, name: str) -> str:
    """The text of a recipe called `name`. Raises CannotStartRecipe."""
    if source not in SOURCES:
        raise CannotStartRecipe(
            f"{source!r} is no source of models. Give one of: {', '.join(SOURCES)}."
        )
    return SOURCES[source](model, name)


def _from_torchvision(model: str, name: str) -> str:
    models = _library("torchvision.models", "torchvision")
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
    return _filled(
        _IMAGES,
        WHAT=f"{model} of torchvision",
        NAME=name,
        IMPORTS="import torch\nfrom torchvision.models import get_model, get_model_weights",
        CONSTANTS=f'INFO = get_model_weights("{model}").DEFAULT.meta  # <-- of ImageNet\n',
        MODULE=f'get_model("{model}", weights=None)  # <-- your own: num_classes=…',
        WEIGHTS=f"None,  # <-- path of a checkpoint; ImageNet's: {weights.url}",
        OUTPUTS="",
        LABELS='INFO["categories"]',
        PREPROCESSING=_preprocessing(
            height=crop,
            width=crop,
            crop=f"{crop} / {resize}" if resize > crop else "1.0",
            resample=preset.interpolation.value,
            mean=[255 * each for each in preset.mean],
            std=[255 * each for each in preset.std],
            source=f"torchvision.models.{weights}.transforms()",
        ),
    )


def _from_hf(model: str, name: str) -> str:
    # The recipe loads by `from_pretrained`, which knows the names that older versions gave.
    folder = Path(model).expanduser().absolute()
    config = _json(folder / "config.json")
    _library("transformers", "transformers")
    try:
        files_of(folder)
    except ShipwayError as error:
        raise CannotStartRecipe(str(error)) from error
    if "auto_map" in config:
        raise CannotStartRecipe(
            f"{folder} brings code of its own (auto_map in config.json), which is not run unread. "
            "Read it, copy it beside a recipe of your own (shipway new NAME), and import it there."
        )
    architecture = (config.get("architectures") or ["(none)"])[0]
    kind = next((each for each in _KINDS if architecture.endswith(each)), None)
    if kind is None:
        raise CannotStartRecipe(
            f"{folder} is a {architecture}; there is a recipe for those that end with "
            f"{', '.join(_KINDS)}. Start from `shipway new {name}`, and give the task `tensors`."
        )
    if kind == "ImageClassification":
        return _hf_images(folder, config, name)
    return _hf_texts(folder, config, name, kind)


def _hf_images(folder: Path, config: Mapping[str, Any], name: str) -> str:
    said = _json(folder / "preprocessor_config.json")
    size, crop = _side(said.get("size")), _side(said.get("crop_size"))
    side = crop if said.get("do_center_crop") and crop else size
    if side is None or said.get("resample", 2) not in _PIL_FILTERS:
        raise CannotStartRecipe(
            f"{folder / 'preprocessor_config.json'} describes no square of one size that is "
            "resized by Pillow's filters. Start from `shipway new`, and write its preprocessing."
        )
    scale = 255 if said.get("do_rescale", True) else 1
    mean, std = [0, 0, 0], [1, 1, 1]
    if said.get("do_normalize", True):
        mean, std = said.get("image_mean") or mean, said.get("image_std") or std
    cropped = None  # transformers resizes the whole image to a square
    if said.get("do_center_crop") and size:
        cropped = f"{side} / {size}"
    elif isinstance(share := said.get("crop_pct"), float):
        cropped = str(share)
    elif isinstance(said.get("size"), dict) and "shortest_edge" in said["size"]:
        cropped = "1.0"
    return _filled(
        _IMAGES,
        WHAT=f"{config['architectures'][0]} of Hugging Face's transformers",
        NAME=name,
        IMPORTS="from pathlib import Path\n\nimport torch\n"
        "from transformers import AutoConfig, AutoModelForImageClassification",
        CONSTANTS=f'FOLDER = Path("{folder}")\n'
        "CONFIG = AutoConfig.from_pretrained(FOLDER, local_files_only=True)\n",
        MODULE="AutoModelForImageClassification.from_pretrained(FOLDER, local_files_only=True)",
        WEIGHTS="None,  # `from_pretrained` has loaded them",
        OUTPUTS='    outputs=["logits"],\n',
        LABELS=_labels(config),
        PREPROCESSING=_preprocessing(
            height=side,
            width=side,
            crop=cropped,
            resample=_PIL_FILTERS[said.get("resample", 2)],
            mean=[scale * each for each in mean],
            std=[scale * each for each in std],
            source="preprocessor_config.json of the model's folder",
        ),
    )


def _hf_texts(folder: Path, config: Mapping[str, Any], name: str, kind: str) -> str:
    if not (folder / "tokenizer.json").is_file():
        raise CannotStartRecipe(
            f"{folder} has no tokenizer.json, the format of the `tokenizers` library. Write it: "
            "AutoTokenizer.from_pretrained(FOLDER, use_fast=True).save_pretrained(FOLDER)."
        )
    longest = [config.get("max_position_embeddings", 512)]
    for file, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        if (folder / file).is_file():
            longest.append(_json(folder / file).get(key) or longest[0])
    modules = folder / "modules.json"
    normalized = modules.is_file() and "Normalize" in modules.read_text()
    returned = "torch.nn.functional.normalize(mean_BD, dim=1)" if normalized else "mean_BD"
    pooled = _filled(_POOLED, NORM=", of length 1" if normalized else "", RETURNED=returned)
    classifies = kind != "Model"
    auto = f"AutoModelFor{kind}" if classifies else "AutoModel"
    return _filled(
        _TEXTS,
        WHAT=f"{config['architectures'][0]} of Hugging Face's transformers",
        NAME=name,
        AUTO=auto,
        FOLDER=str(folder),
        CLASS="" if classifies else pooled,
        MODULE=f"{auto}.from_pretrained(FOLDER, local_files_only=True)"
        if classifies
        else "Pooled()",
        TASK=_TEXTS_OF[kind],
        OUTPUTS='    outputs=["logits"],\n' if classifies else "",
        LENGTH=str(int(min(longest))),
        PAD=str(config.get("pad_token_id") or 0),
        LABELS=_labels(config) if classifies else "[]",
    )


SOURCES: Mapping[str, Callable[[str, str], str]] = {
    "torchvision": _from_torchvision,
    "hf": _from_hf,
}
"""By their names: what writes a recipe of a model that is found there."""


def _preprocessing(
    *,
    height: int,
    width: int,
    crop: str | None,
    resample: str,
    mean: list[float],
    std: list[float],
    source: str,
) -> str:
    """The fields of an ImagePreprocessing; without `crop`, it squashes."""

    def listed(values: list[float]) -> str:
        return f"({', '.join(f'{each:.6g}' for each in values)})"

    lines = [
        f"height={height},",
        f"width={width},",
        f"crop_fraction={crop}," if crop else 'fit="squash",',
        f'resample="{resample}",',
        f"mean={listed(mean)},  # of red, green and blue, from 0 to 255",
        f"std={listed(std)},",
        f'source="{source}",',
    ]
    return "".join(f"        {line}\n" for line in lines)


def _labels(config: Mapping[str, Any]) -> str:
    names = config.get("id2label") or {}
    if len(names) > _MOST_LABELS:
        return "[CONFIG.id2label[each] for each in range(CONFIG.num_labels)]"
    return repr([names[each] for each in sorted(names, key=int)] or ["LABEL_0", "LABEL_1"])


def _side(size: object) -> int | None:
    """The side of what preprocessor_config.json calls a size; None if it is no square."""
    if isinstance(size, int):
        return size
    if not isinstance(size, Mapping):
        return None
    if isinstance(shortest := size.get("shortest_edge"), int):
        return shortest
    height, width = size.get("height"), size.get("width")
    return height if isinstance(height, int) and height == width else None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CannotStartRecipe(
            f"{path} cannot be read: {error}. Give the folder that `save_pretrained` wrote."
        ) from error
    if not isinstance(found, dict):
        raise CannotStartRecipe(f"{path} holds no JSON object.")
    return found


def _library(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise CannotStartRecipe(
            f"{package} is not installed, and the recipe would import it. Install it beside "
            f"Shipway: pip install {package}."
        ) from error


def _filled(template: str, **values: str) -> str:
    for key, value in values.items():
        template = template.replace(f"__{key}__", value)
    return template
