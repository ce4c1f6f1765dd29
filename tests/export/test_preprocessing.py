"""EfficientNet-Lite0's preprocessing against its source, and against habit, on real photos."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from export.recipes._photos import SCIKIT_IMAGE, SCIKIT_LEARN
from export.recipes.efficientnet_lite0 import recipe
from shipway.export.checkpoint import load_checkpoint
from shipway.payloads.images import decode_image
from shipway.recipe import ImagePreprocessing

PHOTOS = {
    SCIKIT_IMAGE / "chelsea.png": {281, 282, 285},  # tabby, tiger cat, Egyptian cat
    SCIKIT_IMAGE / "coffee.png": {967},  # espresso
    SCIKIT_IMAGE / "rocket.jpg": {657, 744},  # missile, projectile
    SCIKIT_LEARN / "china.jpg": {698},  # palace
    SCIKIT_LEARN / "flower.jpg": {985},  # daisy
}


@pytest.fixture(scope="module")
def module():
    made = recipe.module()
    weights = Path(recipe.weights())
    load_checkpoint(made, weights, recipe.checkpoint)
    return made.eval()


def as_the_source_does(path) -> np.ndarray:
    """preprocess_for_eval of tensorflow/tpu, in torch: an integer crop, bicubic, no smoothing."""
    image = torch.from_numpy(np.array(Image.open(path).convert("RGB")))
    height, width, _ = image.shape
    crop = int(224 / (224 + 32) * min(height, width))
    top, left = (height - crop + 1) // 2, (width - crop + 1) // 2
    square = image[top : top + crop, left : left + crop].permute(2, 0, 1)[None].float()
    resized = torch.nn.functional.interpolate(square, (224, 224), mode="bicubic")
    return resized[0].permute(1, 2, 0).numpy()


def as_served(path) -> np.ndarray:
    assert isinstance(recipe.preprocessing, ImagePreprocessing)
    return decode_image(path.read_bytes(), recipe.preprocessing).astype(np.float32)


def probabilities(module, pixels_HWC: np.ndarray, mean, std) -> torch.Tensor:
    normalised = (pixels_HWC - np.array(mean)) / np.array(std)
    batch = torch.from_numpy(normalised.astype(np.float32).transpose(2, 0, 1)[None].copy())
    with torch.inference_mode():
        return module(batch).softmax(1)[0]


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_the_served_crop_is_the_sources_crop(path):
    """Up to smoothing: Pillow averages what it shrinks, where the source's resize skips pixels."""
    a, b = as_served(path), as_the_source_does(path)
    blurred = [
        torch.nn.functional.avg_pool2d(torch.from_numpy(each.copy()).permute(2, 0, 1)[None], 8)
        for each in (a, b)
    ]
    assert float((blurred[0] - blurred[1]).abs().mean()) < 2.5
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_each_photo_is_recognised(module, path):
    spec = recipe.preprocessing
    found = probabilities(module, as_served(path), spec.mean, spec.std)
    assert int(found.argmax()) in PHOTOS[path]


def test_the_sources_normalisation_finds_the_true_classes_more_probable_than_habit_does(module):
    spec = recipe.preprocessing
    ways = {
        "the source": (spec.mean, spec.std),
        "ImageNet by habit": ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
        "0 to 1": ([0.0] * 3, [255.0] * 3),
    }
    found = {
        name: sum(
            float(probabilities(module, as_served(path), *way)[sorted(classes)].sum().log())
            for path, classes in PHOTOS.items()
        )
        for name, way in ways.items()
    }
    assert max(found, key=found.get) == "the source", found
