"""Pictures of the program's size, compared with the plain way: upright first, then Pillow."""

import io
import tracemalloc
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from pydantic import ValidationError

from shipway.payloads.images import decode_image
from shipway.recipe import ImagePreprocessing
from tests.conftest import PHOTOS, encoded

ORIENTATION = 0x0112
CLOSE = 1
"""Levels by which torch's filters and Pillow's differ at most."""


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.open(PHOTOS / "chelsea.png").convert("RGB").resize((300, 200))


def spec(**changes: Any) -> ImagePreprocessing:
    channels = changes.get("channels", 3)
    fields: dict[str, Any] = {
        "height": 96,
        "width": 64,
        "resample": "bicubic",
        "mean": (0.0,) * channels,
        "std": (1.0,) * channels,
        "source": "a test",
    }
    return ImagePreprocessing(**fields | changes)


def stored(photo: Image.Image, orientation: int, format: str = "PNG") -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    photo.save(file, format, exif=exif, **({"quality": 95} if format == "JPEG" else {}))
    return file.getvalue()


def plainly(data: bytes, spec: ImagePreprocessing) -> np.ndarray:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    size = (spec.width, spec.height)
    by = Image.Resampling.BICUBIC
    if spec.fit == "squash":
        return np.asarray(image.resize(size, by))
    scale = min(spec.width / image.width, spec.height / image.height)
    inner = image.resize((round(image.width * scale), round(image.height * scale)), by)
    whole = Image.new(image.mode, size, (spec.fill,) * 3)
    whole.paste(inner, ((size[0] - inner.width) // 2, (size[1] - inner.height) // 2))
    return np.asarray(whole)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fit", ["squash", "letterbox"])
@pytest.mark.parametrize("size", [(96, 64), (64, 64), (50, 131), (300, 7)])
def test_a_picture_is_as_turned_upright_first(photo, fit, size, orientation):
    asked = spec(fit=fit, height=size[0], width=size[1])
    data = stored(photo, orientation)
    found, expected = decode_image(data, asked), plainly(data, asked)
    assert found.shape == (*size, 3) and found.flags.c_contiguous
    assert np.abs(found.astype(int) - expected).max() <= CLOSE


@pytest.mark.parametrize("fit", ["squash", "letterbox"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_is_scaled_while_it_is_decoded(photo, fit, orientation):
    large = photo.resize((2400, 1600))
    data = stored(large, orientation, "JPEG")
    asked = spec(fit=fit)
    found, expected = decode_image(data, asked), plainly(data, asked)
    assert np.abs(found.astype(int) - expected).mean() < 1.5


def test_a_letterbox_shows_all_of_it_in_the_middle(photo):
    found = decode_image(encoded(photo), spec(fit="letterbox", fill=7))
    assert (found[:26] == 7).all() and (found[-27:] == 7).all()  # 64 × 43 pixels between
    assert not (found[27:69] == 7).all(axis=(1, 2)).any()


@pytest.mark.parametrize("fit", ["crop", "squash", "letterbox"])
def test_grey_is_as_pillow_makes_it(photo, fit):
    crop = {"crop_fraction": 1.0} if fit == "crop" else {}
    asked = spec(fit=fit, channels=1, height=64, **crop)
    found = decode_image(encoded(photo), asked)
    same = decode_image(encoded(photo.convert("L")), asked)
    assert found.shape == (64, 64, 1) and np.array_equal(found, same)
    if fit == "squash":
        expected = np.asarray(photo.convert("L").resize((64, 64), Image.Resampling.BICUBIC))
        assert np.abs(found[:, :, 0].astype(int) - expected).max() <= CLOSE


def test_alpha_is_kept_where_the_program_takes_it(photo):
    clear = photo.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(photo.size))
    found = decode_image(encoded(clear), spec(fit="squash", channels=4))
    expected = np.asarray(clear.resize((64, 96), Image.Resampling.BICUBIC))
    assert np.array_equal(found, expected)
    opaque = decode_image(encoded(photo), spec(fit="squash", channels=4))
    assert (opaque[..., 3] == 255).all()
    white = decode_image(encoded(clear), spec(fit="squash", channels=1))
    assert white[0].mean() > 250  # what is transparent is on white


@pytest.mark.parametrize("fit", ["squash", "letterbox"])
@pytest.mark.parametrize("size", [(50, 6401), (6401, 50), (1, 60_000), (60_000, 3)])
def test_a_jpeg_of_odd_proportions_is_decoded(fit, size):
    found = decode_image(encoded(Image.new("RGB", size, "white"), "JPEG"), spec(fit=fit))
    assert found.shape == (96, 64, 3) and (found == 255).any()


@pytest.mark.parametrize("fit", ["squash", "letterbox"])
@pytest.mark.parametrize("size", [(1, 1), (1, 100_000), (100_000, 1), (3, 2)])
def test_pictures_of_odd_proportions_take_little_memory(fit, size):
    data = encoded(Image.new("RGB", size, (10, 200, 30)))
    asked = spec(fit=fit)
    decode_image(data, asked)
    tracemalloc.start()
    found = decode_image(data, asked)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000
    off = np.abs(found.astype(int) - (10, 200, 30)).max(axis=2)
    assert (off <= CLOSE).any() and (fit == "letterbox" or (off <= CLOSE).all())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fit": "crop"}, "crop_fraction is missing"),
        ({"fit": "squash", "crop_fraction": 0.9}, "fit='squash' crops nothing"),
        ({"fit": "stretch"}, "'crop', 'squash' or 'letterbox'"),
        ({"fit": "squash", "channels": 2}, "1, 3 or 4"),
        ({"fit": "squash", "mean": (0.0,)}, "mean has 1 numbers and the image 3 channels"),
        ({"fit": "squash", "std": (1.0,) * 4}, "std has 4 numbers and the image 3 channels"),
        ({"fit": "letterbox", "fill": 256}, "less than or equal to 255"),
    ],
)
def test_a_preprocessing_that_contradicts_itself_is_refused(changes, says):
    with pytest.raises(ValidationError, match=says):
        spec(**changes)
