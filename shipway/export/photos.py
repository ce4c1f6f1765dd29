"""Inputs from real photos: many different crops, the same ones each time.

N = crops, H, W = pixels.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from shipway.export.errors import BadInputs
from shipway.payloads.images import decode_image
from shipway.recipe import ImagePreprocessing, Inputs, Recipe, Rows

AUGMENTED_BY = 0.1
"""The most that brightness, contrast and colour are changed. With 0.4, the ranges of int8 programs
of EfficientNet-Lite0 became so wide that they lost more."""


def crops(
    photos: Sequence[str | Path | Image.Image], *, each: int, seed: int, augment: bool = False
) -> Inputs:
    """`each` random views of every photo: half to all of its shorter side, or of both sides if the
    model does not crop, every other mirrored.

    The views of one photo are one group. With `augment` their brightness, contrast and colour are
    changed a little as well: for calibration, which few photos then serve better. Inputs to
    evaluate on have to be as requests are.
    """

    def load(recipe: Recipe) -> Rows:
        assert isinstance(recipe.preprocessing, ImagePreprocessing)
        if not photos:
            raise BadInputs(
                "The recipe's list of photos is empty. Check the folder and the file pattern "
                "in the recipe."
            )
        random = np.random.default_rng(seed)
        views = [
            _view(_opened(photo), recipe.preprocessing, random, augment)
            for photo in photos
            for _ in range(each)
        ]
        return Rows((np.stack(views),), groups=np.repeat(np.arange(len(photos)), each))

    kind = "generated images" if any(isinstance(p, Image.Image) for p in photos) else "photos"
    what = "augmented crops" if augment else "crops"
    return Inputs(description=f"{each} {what} of each of {len(photos)} {kind}", load=load)


def example_photos(count: int) -> list[Image.Image]:
    """Generated images of 256×192 pixels, the same ones each time, until a recipe has real photos.

    Soft colours, a texture and a few filled shapes: enough to compare programs with eager PyTorch,
    but no substitute for photos like those that a model will be asked about.
    """
    return [_generated(np.random.default_rng(index), 256, 192) for index in range(count)]


def _generated(random: np.random.Generator, width: int, height: int) -> Image.Image:
    pixels_HWC = np.zeros((height, width, 3))
    for cells, strength in ((2, 110), (6, 60), (24, 30), (96, 15)):  # coarse to fine, as in photos
        noise = random.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        layer = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        pixels_HWC += strength / 255 * np.asarray(layer)
    photo = Image.fromarray(pixels_HWC.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(photo)
    for shape in (draw.ellipse, draw.rectangle, draw.ellipse):
        left, top = int(random.integers(0, width - 40)), int(random.integers(0, height - 40))
        right, bottom = left + int(random.integers(20, 90)), top + int(random.integers(20, 90))
        red, green, blue = (int(value) for value in random.integers(0, 256, 3))
        shape((left, top, right, bottom), fill=(red, green, blue))
    return photo


def _opened(photo: str | Path | Image.Image) -> Image.Image:
    return photo if isinstance(photo, Image.Image) else Image.open(photo)


def _view(
    photo: Image.Image, spec: ImagePreprocessing, random: np.random.Generator, augment: bool
) -> np.ndarray:
    photo = photo.convert("RGBA" if spec.channels == 4 else "RGB")
    share = random.uniform(0.5, 1.0)
    shorter = min(photo.size)
    sides = [share * (shorter if spec.fit == "crop" else length) for length in photo.size]
    left, top = (
        random.uniform(0, length - side) for length, side in zip(photo.size, sides, strict=True)
    )
    view = photo.crop((round(left), round(top), round(left + sides[0]), round(top + sides[1])))
    if random.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if augment:
        for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            view = enhancer(view).enhance(random.uniform(1 - AUGMENTED_BY, 1 + AUGMENTED_BY))
    # Through the decoder that serves, so that what is compared is what will be asked.
    file = io.BytesIO()
    view.save(file, "PNG", compress_level=0)
    return decode_image(file.getvalue(), spec)
