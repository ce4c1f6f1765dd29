"""Recipes of folders that `save_pretrained` of Hugging Face's transformers wrote.

Nothing that such a folder says is written into a recipe unchecked, since a recipe is code.
"""

import io
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt, ValidationError

from shipway.artifact.bundle import problems_in
from shipway.errors import ShipwayError
from shipway.export.checkpoint_files import files_of
from shipway.export.new import CannotStartRecipe
from shipway.export.new_parts import (
    IMAGES,
    checked,
    filled,
    json_of,
    library,
    preprocessing_fields,
)
from shipway.export.photos import example_photos
from shipway.payloads.images import decode_image
from shipway.recipe import ImagePreprocessing

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

FOLDER = Path(__FOLDER__)
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
    """__WHAT__.

    B = texts, T = tokens, D = numbers of a vector.
    """

    def __init__(self) -> None:
        super().__init__()
        self.model = AutoModel.from_pretrained(FOLDER, local_files_only=True)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        tokens_BTD = self.model(input_ids, attention_mask).last_hidden_state
__LINES__

'''
_POOLINGS = {
    "pooling_mode_mean_tokens": (
        "The mean of the tokens' vectors",
        "        weight_BT1 = attention_mask[:, :, None].to(tokens_BTD.dtype)\n"
        "        pooled_BD = (tokens_BTD * weight_BT1).sum(1) / weight_BT1.sum(1)\n",
    ),
    "pooling_mode_cls_token": (
        "The first token's vector",
        "        pooled_BD = tokens_BTD[:, 0]\n",
    ),
}
"""By what 1_Pooling/config.json of sentence-transformers calls it."""
_OFFSET_POSITIONS = ("roberta", "camembert", "mpnet", "longformer")
"""Models whose positions begin behind that of the padding, in a part of their names."""
CLOSE = 0.1
"""How far pixels may be from those of the folder's own processor, in the mean, in standard
deviations. Differences of resizing are below 0.02, and a flipped colour order is above 0.1."""


class _Config(BaseModel):
    """What is used of config.json."""

    architectures: Annotated[list[str], Field(min_length=1)]
    model_type: str = ""
    id2label: dict[int, str] | None = None
    num_labels: PositiveInt = 2
    problem_type: str | None = None
    max_position_embeddings: PositiveInt | None = None
    pad_token_id: NonNegativeInt | None = None

    @property
    def labels(self) -> list[str]:
        """In the order of the outputs."""
        if not self.id2label:
            return [f"LABEL_{place}" for place in range(self.num_labels)]
        return [self.id2label[place] for place in sorted(self.id2label)]


class _Processor(BaseModel):
    """What is used of preprocessor_config.json."""

    size: int | dict[str, int]
    crop_size: int | dict[str, int] | None = None
    do_center_crop: bool = False
    crop_pct: float | None = None
    resample: Literal[1, 2, 3] = 2
    do_rescale: bool = True
    do_normalize: bool = True
    image_mean: list[float] | None = None
    image_std: list[float] | None = None


def from_hf(model: str, name: str) -> str:
    """The recipe of a folder. Raises CannotStartRecipe."""
    # The recipe loads by `from_pretrained`, which knows the names that older versions gave.
    folder = Path(model).expanduser().absolute()
    content = json_of(folder / "config.json")
    if "auto_map" in content:
        raise CannotStartRecipe(
            f"{folder} brings code of its own (auto_map in config.json), which is not run unread. "
            "Read it, copy it beside a recipe of your own (shipway new NAME), and import it there."
        )
    config = checked(_Config, content, folder / "config.json")
    library("transformers", "transformers")
    try:
        files_of(folder)
    except ShipwayError as error:
        raise CannotStartRecipe(str(error)) from error
    architecture = config.architectures[0]
    kind = next((each for each in _KINDS if architecture.endswith(each)), None)
    if kind is None or not architecture.isidentifier() or architecture.endswith("HeadModel"):
        raise CannotStartRecipe(
            f"{folder} is a {architecture[:60]!r}; there is a recipe for those that end with "
            f"{', '.join(_KINDS)}. Start from `shipway new {name}`, and give the task `tensors`."
        )
    if kind == "ImageClassification":
        return _hf_images(folder, config, name)
    return _hf_texts(folder, config, name, kind)


def _hf_images(folder: Path, config: _Config, name: str) -> str:
    path = folder / "preprocessor_config.json"
    json_of(path)
    transformers = library("transformers", "transformers")
    try:
        # What the file does not say is as the processor's class says.
        processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        settings = json.loads(processor.to_json_string())
    except Exception as error:  # of transformers, whatever the file makes it raise
        raise _unusable(path, error) from error
    spec, cropped = _image_spec(checked(_Processor, settings, path), path)
    try:
        far = _far_from_processor(processor, spec)
    except Exception as error:
        raise _unusable(path, error) from error
    if far > CLOSE:
        raise CannotStartRecipe(
            f"What transformers makes of a photo by {path} differs from what this recipe would, by "
            f"{far:.2g} standard deviations in the mean: it does something that Shipway does not. "
            "Start from `shipway new`, and do it in the module."
        )
    return filled(
        IMAGES,
        WHAT=f"{config.architectures[0]} of Hugging Face's transformers",
        NAME=name,
        IMPORTS="from pathlib import Path\n\nimport torch\n"
        "from transformers import AutoConfig, AutoModelForImageClassification",
        CONSTANTS=f"FOLDER = Path({str(folder)!r})\n"
        "CONFIG = AutoConfig.from_pretrained(FOLDER, local_files_only=True)\n",
        MODULE="AutoModelForImageClassification.from_pretrained(FOLDER, local_files_only=True)",
        WEIGHTS="None,  # `from_pretrained` has loaded them",
        OUTPUTS=_outputs(config, "image"),
        LABELS=_labels(config),
        PREPROCESSING=preprocessing_fields(spec, cropped),
    )


def _image_spec(said: _Processor, path: Path) -> tuple[ImagePreprocessing, str | None]:
    """The preprocessing, and its crop_fraction as a recipe writes it, if there is one."""
    size, crop = _side(said.size), _side(said.crop_size)
    side = crop if said.do_center_crop and crop else size
    if side is None:
        raise CannotStartRecipe(
            f"{path} describes no square of one size. Start from `shipway new`, and write its "
            "preprocessing."
        )
    scale = 255 if said.do_rescale else 1
    mean, std = said.image_mean, said.image_std
    if not said.do_normalize or mean is None or std is None:
        mean, std = [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]
    shorter = not isinstance(said.size, dict) or "shortest_edge" in said.size
    cropped = None  # transformers resizes the whole image to a square
    if said.do_center_crop and size and size >= side and shorter:
        cropped = f"{side} / {size}"
    elif said.crop_pct is not None:
        cropped = str(said.crop_pct)
    elif isinstance(said.size, dict) and "shortest_edge" in said.size:
        cropped = "1.0"
    top, _, bottom = (cropped or "1").partition(" / ")
    fields: dict[str, Any] = {
        "height": side,
        "width": side,
        "fit": "squash",
        "channels": len(mean),
        "resample": _PIL_FILTERS[said.resample],
        "mean": [scale * each for each in mean],
        "std": [scale * each for each in std],
        "source": "preprocessor_config.json of the model's folder",
    }
    if cropped:
        fields |= {"fit": "crop", "crop_fraction": float(top) / float(bottom or 1)}
    try:
        return ImagePreprocessing(**fields), cropped
    except ValidationError as error:
        raise CannotStartRecipe(f"{path} cannot be followed: {problems_in(error)}") from error


def _unusable(path: Path, error: Exception) -> CannotStartRecipe:
    return CannotStartRecipe(
        f"transformers cannot use {path}: {type(error).__name__}: {str(error)[:200]}"
    )


def _far_from_processor(processor: Any, spec: ImagePreprocessing) -> float:
    """The mean distance of pixels from those of the folder's own processor, in two photos."""
    found = []
    for photo in (example_photos(1)[0], example_photos(2)[1].rotate(90, expand=True)):
        file = io.BytesIO()
        photo.save(file, "PNG")
        pixels_HWC = (decode_image(file.getvalue(), spec) - np.array(spec.mean)) / spec.std
        theirs_CHW = np.asarray(processor(photo, return_tensors="np")["pixel_values"][0])
        if theirs_CHW.shape != (spec.channels, spec.height, spec.width):
            return math.inf
        found.append(float(np.abs(pixels_HWC.transpose(2, 0, 1) - theirs_CHW).mean()))
    return max(found)


def _hf_texts(folder: Path, config: _Config, name: str, kind: str) -> str:
    if not (folder / "tokenizer.json").is_file():
        raise CannotStartRecipe(
            f"{folder} has no tokenizer.json, the format of the `tokenizers` library. Write it: "
            "AutoTokenizer.from_pretrained(FOLDER, use_fast=True).save_pretrained(FOLDER)."
        )
    classifies = kind != "Model"
    auto = f"AutoModelFor{kind}" if classifies else "AutoModel"
    outputs = '    outputs=["logits"],\n' if classifies else ""
    task = _TEXTS_OF[kind]
    if kind == "SequenceClassification":
        outputs = _outputs(config, "text")
        task = "text_regression" if config.problem_type == "regression" else task
    return filled(
        _TEXTS,
        WHAT=f"{config.architectures[0]} of Hugging Face's transformers",
        NAME=name,
        AUTO=auto,
        FOLDER=repr(str(folder)),
        CLASS="" if classifies else _pooled(folder),
        MODULE=f"{auto}.from_pretrained(FOLDER, local_files_only=True)"
        if classifies
        else "Pooled()",
        TASK=task,
        OUTPUTS=outputs,
        LENGTH=str(_most_tokens(folder, config)),
        PAD=str(config.pad_token_id or 0),
        LABELS=_labels(config) if classifies else "[]",
    )


def _most_tokens(folder: Path, config: _Config) -> int:
    positions = config.max_position_embeddings or 512
    if any(each in config.model_type for each in _OFFSET_POSITIONS):
        positions -= (config.pad_token_id or 0) + 1
    longest = [positions]
    for file, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        if (folder / file).is_file():
            length = json_of(folder / file).get(key)
            if isinstance(length, int | float) and length >= 1:
                longest.append(int(length))
    return min(longest)


def _pooled(folder: Path) -> str:
    """The module that makes one vector of a text, as modules.json of sentence-transformers says;
    without it, the mean of the tokens."""
    modules = [{"type": "Pooling", "path": ""}]
    if (folder / "modules.json").is_file():
        modules = json_of(folder / "modules.json", list)
    kinds = [str(each.get("type")).rpartition(".")[2] for each in modules]
    settings = {"pooling_mode_mean_tokens": True}
    for each, kind in zip(modules, kinds, strict=True):
        path = folder / str(each.get("path", "")) / "config.json"
        if kind == "Pooling" and each.get("path"):
            settings = json_of(path)
    ways = [key for key, value in settings.items() if "pooling_mode_" in key and value is True]
    if set(kinds) - {"Transformer", "Pooling", "Normalize"} or ways not in (
        [each] for each in _POOLINGS
    ):
        raise CannotStartRecipe(
            f"{folder / 'modules.json'} asks for {', '.join(kinds)} with "
            f"{', '.join(ways) or 'no pooling'}; there is a recipe for {' and '.join(_POOLINGS)}, "
            "alone. Start from `shipway new`, and write the module that makes a vector of a text."
        )
    what, lines = _POOLINGS[ways[0]]
    if "Normalize" in kinds:
        lines += "        return torch.nn.functional.normalize(pooled_BD, dim=1)"
        return filled(_POOLED, WHAT=f"{what}, of length 1", LINES=lines)
    return filled(_POOLED, WHAT=what, LINES=lines + "        return pooled_BD")


def _outputs(config: _Config, what: str) -> str:
    """The fields of a recipe that say what a classifier's logits are."""
    known = (None, "single_label_classification", "multi_label_classification", "regression")
    if config.problem_type not in known:
        raise CannotStartRecipe(
            f"config.json has the problem_type {config.problem_type[:60]!r}; there is a recipe for "
            f"{', '.join(filter(None, known))}. Start from `shipway new`, and give the task "
            "`tensors`."
        )
    lines = '    outputs=["logits"],\n'
    if config.problem_type == "multi_label_classification":
        lines += '    scores="multi_label",\n'
    if config.problem_type == "regression" and what == "image":
        lines += '    task="image_regression",\n'
    return lines


def _labels(config: _Config) -> str:
    if len(config.labels) > _MOST_LABELS:
        return "[CONFIG.id2label[each] for each in range(CONFIG.num_labels)]"
    return repr(config.labels)


def _side(size: int | dict[str, int] | None) -> int | None:
    """The side of what preprocessor_config.json calls a size; None if it is no square."""
    if not isinstance(size, dict):
        return size
    if "shortest_edge" in size:
        return size["shortest_edge"]
    return size.get("height") if size.get("height") == size.get("width") else None
