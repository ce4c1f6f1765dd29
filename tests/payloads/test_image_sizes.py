"""Sizes that are read without a decoder are those that Pillow wrote."""

import io

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from shipway.payloads.image_sizes import is_small
from tests.conftest import PHOTOS, encoded


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.open(PHOTOS / "chelsea.png").convert("RGB")


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"lossless": False}),
    ],
)
def test_a_small_file_says_whether_its_picture_is_small(photo, kind, settings):
    for side, small in ((8, True), (256, True), (257, False), (2_000, False)):
        data = encoded(Image.new("RGB", (side, side), "red"), kind, **settings)
        assert is_small(data) is small and is_small(bytearray(data)) is small
        for cut in range(40):
            assert not is_small(data[:cut]) or small  # and nothing is raised
    pixels = encoded(photo.crop((0, 0, 60, 90)), kind, **settings)
    assert is_small(pixels)


def test_what_takes_longer_to_find_out_is_not_called_small(photo):
    small = photo.resize((64, 64))
    assert not is_small(encoded(small, "JPEG", progressive=True))
    texts = PngInfo()
    texts.add_text("comment", "x" * 20_000_000, zip=True)
    assert not is_small(encoded(small, "PNG", pnginfo=texts))
    assert not is_small(b"\xff\xd8" + b"\xff\xfe\0\2" * 100 + encoded(small, "JPEG")[2:])
    with_exif = encoded(small, "JPEG", exif=Image.Exif())
    assert is_small(with_exif)
    animated = io.BytesIO()
    small.save(animated, "WEBP", save_all=True, append_images=[small.rotate(9)])
    assert not is_small(animated.getvalue())
    for nothing in (b"", b"RIFF", b"GIF89a", b'{"image": ""}', b"\x89PNG\r\n\x1a\n"):
        assert not is_small(nothing)
