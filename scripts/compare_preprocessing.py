"""Compares ways to preprocess photos for EfficientNet-Lite0, in fp32 and eager PyTorch.

Prints the tables of docs/preprocessing.md: the probability of the true class and the first class,
for the preprocessing that the weights were trained with and for others that are common.

    .venv/bin/python scripts/compare_preprocessing.py

H, W = pixels, C = channels, K = classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
import sklearn.datasets
import torch
from PIL import Image

from shipway.export.checkpoint import load_checkpoint
from shipway.export.recipe_file import find_recipe
from shipway.payloads.images import decode_image
from shipway.recipe import ImagePreprocessing

RECIPES = Path(__file__).resolve().parent.parent / "export" / "recipes"
recipe, _ = find_recipe(str(RECIPES / "efficientnet_lite0.py"))
assert isinstance(recipe.preprocessing, ImagePreprocessing)
SPEC = recipe.preprocessing
SCIKIT_IMAGE = Path(skimage.data.__file__).parent
SCIKIT_LEARN = Path(sklearn.datasets.__file__).parent / "images"
SIZE = SPEC.height
LABELS = recipe.labels()
HOUSE_CATS = (281, 282, 285)
CAT = SCIKIT_IMAGE / "chelsea.png"
PHOTOS = {
    CAT: HOUSE_CATS,
    SCIKIT_IMAGE / "coffee.png": (967,),
    SCIKIT_IMAGE / "rocket.jpg": (657, 744),
    SCIKIT_LEARN / "china.jpg": (698,),
    SCIKIT_LEARN / "flower.jpg": (985,),
}

SOURCE = (SPEC.mean, SPEC.std)
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
ZERO_TO_ONE = ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to preprocess an image file for the module."""

    name: str
    pixels_HWC: Callable[[Path], np.ndarray]
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] = SOURCE


def served(path: Path) -> np.ndarray:
    """As the server does: the crop of the weights' source, resized with antialiasing."""
    return decode_image(path.read_bytes(), SPEC)


def reversed_channels(path: Path) -> np.ndarray:
    """As the server does, with red and blue exchanged."""
    return served(path)[..., ::-1]


def squashed(path: Path) -> np.ndarray:
    """The whole image, without keeping its proportions."""
    return np.asarray(_photo(path).resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def unscaled(path: Path) -> np.ndarray:
    """The centre of the image, without resizing."""
    return _centre(np.asarray(_photo(path)), SIZE)


def exactly_the_source(path: Path) -> np.ndarray:
    """preprocess_for_eval: a rounded crop, then TensorFlow 1's resize_bicubic."""
    photo = np.asarray(_photo(path))
    return _resize_bicubic(_centre(photo, int(SPEC.crop_fraction * min(photo.shape[:2]))), SIZE)


def _photo(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def _centre(photo: np.ndarray, side: int) -> np.ndarray:
    top, left = ((length - side + 1) // 2 for length in photo.shape[:2])
    return photo[top : top + side, left : left + side]


def _resize_bicubic(pixels: np.ndarray, size: int) -> np.ndarray:
    """As TensorFlow 1 does by default: four taps at any scale, pixels placed by their corners."""
    resized = pixels.astype(np.float64)
    for axis in (0, 1):
        length = resized.shape[axis]
        positions = np.arange(size) * (length / size)
        taps = np.floor(positions).astype(int)[:, None] + np.arange(-1, 3)
        weights = _keys(np.abs(taps - positions[:, None]))
        lines = np.moveaxis(resized, axis, 0)[taps.clip(0, length - 1)]
        resized = np.moveaxis(np.einsum("nt,nt...->n...", weights, lines), 0, axis)
    return resized


def _keys(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * distance**3 - 5 * a * distance**2 + 8 * a * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


COMMON = (
    Variant(name="the source", pixels_HWC=served),
    Variant(name="ImageNet mean and std", pixels_HWC=served, normalisation=IMAGENET),
    Variant(name="0 to 1", pixels_HWC=served, normalisation=ZERO_TO_ONE),
    Variant(name="whole image squashed", pixels_HWC=squashed),
    Variant(name="BGR", pixels_HWC=reversed_channels),
)
DETAILS = (
    Variant(name="as served", pixels_HWC=served),
    Variant(name="exactly as the source, not smoothed", pixels_HWC=exactly_the_source),
)
ON_THE_CAT = (
    *COMMON,
    DETAILS[-1],
    Variant(name="ImageNet, 224 px cut unscaled", pixels_HWC=unscaled, normalisation=IMAGENET),
)


def main() -> None:
    """Prints the three tables."""
    module = recipe.module()
    weights = Path(recipe.weights() or "")
    load_checkpoint(module, weights, recipe.checkpoint)
    module.eval()

    def probabilities_K(path: Path, way: Variant) -> np.ndarray:
        mean, std = map(np.array, variant.normalisation)
        pixels_CHW = ((variant.pixels_HWC(path) - mean) / std).astype(np.float32).transpose(2, 0, 1)
        with torch.inference_mode():
            return module(torch.from_numpy(pixels_CHW.copy())[None]).softmax(1)[0].numpy()

    for variants in (COMMON, DETAILS):
        rows = []
        for path, true in PHOTOS.items():
            cells = [f"{path.stem}: {' or '.join(LABELS[label] for label in true)}"]
            for variant in variants:
                probability_K = probabilities_K(path, variant)
                first = int(probability_K.argmax())
                wrong = "" if first in true else f", *{LABELS[first]}*"
                cells.append(f"{probability_K[list(true)].sum():.2f}{wrong}")
            rows.append(cells)
        print_table(["photo: true class", *(variant.name for variant in variants)], rows)
    rows = []
    for variant in ON_THE_CAT:
        probability_K = probabilities_K(CAT, variant)
        first = int(probability_K.argmax())
        rows.append(
            [variant.name, *(f"{probability_K[label]:.2f}" for label in HOUSE_CATS)]
            + [f"{LABELS[first]} ({first})"]
        )
    columns = [f"{LABELS[label]} ({label})" for label in HOUSE_CATS]
    print_table(["the cat", *columns, "top-1"], rows)


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Prints a Markdown table."""
    for cells in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(cells)} |")
    print()


if __name__ == "__main__":
    main()
