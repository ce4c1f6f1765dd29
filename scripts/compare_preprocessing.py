"""EfficientNet-Lite0, fp32 and eager, fed the same photos in right and in wrong ways.

Prints the tables of docs/preprocessing.md: how probable the true class is and which class comes
first, for the preprocessing of the weights' source and for others that people use by habit.

    .venv/bin/python scripts/compare_preprocessing.py

H, W = pixels, C = channels, K = classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from export.recipes.efficientnet_lite0 import SCIKIT_IMAGE, SCIKIT_LEARN, recipe
from shipway.export.checkpoint import load_weights, read_state_dict
from shipway.payloads.images import decode_image

SPEC = recipe.preprocessing
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
class Way:
    """One way from a file to the module's input."""

    name: str
    pixels_HWC: Callable[[Path], np.ndarray]
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] = SOURCE


def served(path: Path) -> np.ndarray:
    """What the server feeds: the source's crop, resized with smoothing."""
    return decode_image(path.read_bytes(), SPEC)


def reversed_channels(path: Path) -> np.ndarray:
    return served(path)[..., ::-1]


def squashed(path: Path) -> np.ndarray:
    return np.asarray(_photo(path).resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def unscaled(path: Path) -> np.ndarray:
    return _centre(np.asarray(_photo(path)), SIZE)


def exactly_the_source(path: Path) -> np.ndarray:
    """preprocess_for_eval: a rounded crop, then TensorFlow 1's resize_bicubic."""
    photo = np.asarray(_photo(path))
    return _resize_bicubic(_centre(photo, int(SPEC.crop_fraction * min(photo.shape[:2]))), SIZE)


def rounded_crop(path: Path) -> np.ndarray:
    """The source's rounded crop, resized as the server does."""
    photo = np.asarray(_photo(path))
    square = _centre(photo, int(SPEC.crop_fraction * min(photo.shape[:2])))
    return np.asarray(Image.fromarray(square).resize((SIZE, SIZE), Image.Resampling.BICUBIC))


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


WAYS = (
    Way(name="the source", pixels_HWC=served),
    Way(name="ImageNet mean and std", pixels_HWC=served, normalisation=IMAGENET),
    Way(name="0 to 1", pixels_HWC=served, normalisation=ZERO_TO_ONE),
    Way(name="whole image squashed", pixels_HWC=squashed),
    Way(name="BGR", pixels_HWC=reversed_channels),
)
DETAILS = (
    Way(name="as served", pixels_HWC=served),
    Way(name="crop rounded to pixels", pixels_HWC=rounded_crop),
    Way(name="exactly as the source, not smoothed", pixels_HWC=exactly_the_source),
)
ON_THE_CAT = (
    *WAYS,
    DETAILS[-1],
    Way(name="ImageNet, 224 px cut unscaled", pixels_HWC=unscaled, normalisation=IMAGENET),
)


def main() -> None:
    module = recipe.module()
    weights = Path(recipe.weights())
    load_weights(module, read_state_dict(weights), weights)
    module.eval()

    def probabilities_K(path: Path, way: Way) -> np.ndarray:
        mean, std = map(np.array, way.normalisation)
        pixels_CHW = ((way.pixels_HWC(path) - mean) / std).astype(np.float32).transpose(2, 0, 1)
        with torch.inference_mode():
            return module(torch.from_numpy(pixels_CHW.copy())[None]).softmax(1)[0].numpy()

    for ways in (WAYS, DETAILS):
        rows = []
        for path, true in PHOTOS.items():
            cells = [f"{path.stem}: {' or '.join(LABELS[each] for each in true)}"]
            for way in ways:
                found_K = probabilities_K(path, way)
                first = int(found_K.argmax())
                wrong = "" if first in true else f", *{LABELS[first]}*"
                cells.append(f"{found_K[list(true)].sum():.2f}{wrong}")
            rows.append(cells)
        print_table(["photo: true class", *(way.name for way in ways)], rows)
    rows = []
    for way in ON_THE_CAT:
        found_K = probabilities_K(CAT, way)
        first = int(found_K.argmax())
        rows.append(
            [way.name, *(f"{found_K[each]:.2f}" for each in HOUSE_CATS)]
            + [f"{LABELS[first]} ({first})"]
        )
    columns = [f"{LABELS[each]} ({each})" for each in HOUSE_CATS]
    print_table(["the cat", *columns, "top-1"], rows)


def print_table(header: list[str], rows: list[list[str]]) -> None:
    for cells in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(cells)} |")
    print()


if __name__ == "__main__":
    main()
