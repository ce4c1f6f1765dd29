"""Inputs from real photos: many different crops, the same ones each time.

N = crops, H, W = pixels.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from shipway.export.errors import BadInputs
from shipway.recipe import ImagePreprocessing, Inputs, Recipe, Rows
from shipway.runtime.images import decode_image


def crops(photos: Sequence[str | Path], *, each: int, seed: int) -> Inputs:
    """`each` random views of every photo: half to all of its shorter side, every other mirrored."""

    def load(recipe: Recipe) -> Rows:
        assert isinstance(recipe.preprocessing, ImagePreprocessing)
        if not photos:
            raise BadInputs(
                "The recipe names no photos: is the folder empty, or the pattern wrong?"
            )
        random = np.random.default_rng(seed)
        views = [
            _view(Image.open(photo).convert("RGB"), recipe.preprocessing, random)
            for photo in photos
            for _ in range(each)
        ]
        return Rows((np.stack(views),))

    return Inputs(description=f"{each} crops of each of {len(photos)} photos", load=load)


def _view(photo: Image.Image, spec: ImagePreprocessing, random: np.random.Generator) -> np.ndarray:
    side = min(photo.size) * random.uniform(0.5, 1.0)
    left, top = (random.uniform(0, length - side) for length in photo.size)
    view = photo.crop((round(left), round(top), round(left + side), round(top + side)))
    if random.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    # Through the decoder that serves, so that what is compared is what will be asked.
    file = io.BytesIO()
    view.save(file, "PNG", compress_level=0)
    return decode_image(file.getvalue(), spec)
