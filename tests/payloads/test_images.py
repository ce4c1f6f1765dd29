import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

from shipway.payloads.errors import BadImage, ImageTooLarge, NotAnImage
from shipway.payloads.images import MAX_PIXELS, decode_image
from tests.conftest import PHOTOS, encoded

ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.open(PHOTOS / "chelsea.png").convert("RGB")


def centred_square(image: Image.Image, spec) -> np.ndarray:
    """The plain way: crop, then resize."""
    crop = int(spec.crop_fraction * min(image.size))
    left, top = ((length - crop + 1) // 2 for length in image.size)
    square = image.crop((left, top, left + crop, top + crop))
    return np.asarray(square.resize((spec.width, spec.height), Image.Resampling.BICUBIC))


def mean_difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG"])
def test_each_accepted_format_decodes_to_the_same_pixels(photo, spec, format):
    options = (
        {"lossless": True} if format == "WEBP" else {"quality": 95} if format == "JPEG" else {}
    )
    found = decode_image(encoded(photo, format, **options), spec)
    assert found.shape == (32, 32, 3)
    assert found.dtype == np.uint8
    assert mean_difference(found, centred_square(photo, spec)) < (2 if format == "JPEG" else 0.1)


def test_a_large_jpeg_decoded_at_a_smaller_scale_gives_the_same_picture(photo, spec):
    large = photo.resize((3000, 2000), Image.Resampling.BICUBIC)
    data = encoded(large, "JPEG", quality=95)
    assert mean_difference(decode_image(data, spec), centred_square(large, spec)) < 1.5


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_each_mode_of_a_png_becomes_rgb(photo, spec, mode):
    if mode == "I;16":
        image = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    else:
        image = photo.convert(mode)
    expected = image.convert("RGB") if mode != "I;16" else photo.convert("L").convert("RGB")
    found = decode_image(encoded(image), spec)
    assert mean_difference(found, centred_square(expected, spec)) < 1


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_each_mode_of_a_jpeg_becomes_rgb(photo, spec, mode):
    found = decode_image(encoded(photo.convert(mode), "JPEG", quality=95), spec)
    expected = photo.convert(mode).convert("RGB")
    assert mean_difference(found, centred_square(expected, spec)) < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("sides", [(32, 32), (24, 32)])
def test_an_image_stored_on_its_side_is_turned_upright(photo, spec, orientation, sides):
    spec = spec.model_copy(update={"height": sides[0], "width": sides[1]})
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(photo, "PNG", exif=exif)
    turned = photo.copy()
    turned.getexif()[ORIENTATION] = orientation
    upright = ImageOps.exif_transpose(turned)
    assert mean_difference(decode_image(data, spec), centred_square(upright, spec)) < 1


def test_broken_exif_says_nothing_against_the_pixels(photo, spec):
    data = encoded(photo, "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff broken")
    assert decode_image(data, spec).shape == (32, 32, 3)


@pytest.mark.parametrize(
    "data", [b"hello there", b"%PDF-1.7", b"GIF89a" + bytes(50), b"\x00", b"<svg></svg>"]
)
def test_what_is_no_image_is_called_that(spec, data):
    with pytest.raises(NotAnImage, match="Send JPEG, PNG or WebP"):
        decode_image(data, spec)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_an_image_cut_short_is_called_broken(photo, spec, format, kept):
    whole = encoded(photo, format)
    with pytest.raises((BadImage, NotAnImage)):
        decode_image(whole[: int(len(whole) * kept)], spec)


def test_bits_flipped_anywhere_in_an_image_never_raise_anything_else(photo, spec):
    random = np.random.default_rng(0)
    for format in ("PNG", "JPEG", "WEBP"):
        whole = np.frombuffer(encoded(photo.resize((64, 64)), format), np.uint8)
        for _ in range(150):
            data = whole.copy()
            data[random.integers(0, len(data), 8)] = random.integers(0, 256, 8)
            try:
                pixels = decode_image(data.tobytes(), spec)
            except (BadImage, NotAnImage, ImageTooLarge):
                continue
            assert pixels.shape == (32, 32, 3)


def test_an_image_of_a_hundred_megapixels_is_refused_before_it_is_decoded(spec):
    data = encoded(Image.new("1", (10_000, 10_000)))
    assert len(data) < 100_000
    with pytest.raises(ImageTooLarge, match=r"10000×10000 pixels, 100 megapixels; at most 50"):
        decode_image(data, spec)


def test_a_decompression_bomb_is_refused(spec):
    data = bytearray(encoded(Image.new("1", (100, 100))))
    data[16:24] = (65_000).to_bytes(4, "big") * 2  # the header's width and height
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(ImageTooLarge):
        decode_image(bytes(data), spec)


def test_the_largest_accepted_image_is_accepted(spec):
    data = encoded(Image.new("1", (MAX_PIXELS // 5_000, 5_000)))
    assert decode_image(data, spec).shape == (32, 32, 3)


def test_a_picture_of_one_pixel_is_a_picture(spec):
    spec = spec.model_copy(update={"crop_fraction": 1.0})
    assert decode_image(encoded(Image.new("RGB", (1, 1), "red")), spec)[0, 0].tolist() == [
        255,
        0,
        0,
    ]


def test_a_picture_too_small_to_crop_is_called_that(spec):
    with pytest.raises(BadImage, match="is too small to crop. Send a larger image"):
        decode_image(encoded(Image.new("RGB", (1, 1))), spec)


def test_bytes_that_are_no_image_load_no_further_formats():
    code = """
from PIL import Image
from shipway.payloads import images
try:
    images._open(b"no image")
except images.NotAnImage:
    print(sorted(Image.OPEN))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "WEBP" in done.stdout and "TIFF" not in done.stdout
