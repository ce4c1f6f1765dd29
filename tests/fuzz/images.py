"""Small image files of each format and mode, ways to damage them, and a plain way to read them."""

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
from PIL import Image, ImageOps

from shipway.payloads.images import FORMATS
from shipway.recipe import ImagePreprocessing
from tests.conftest import PHOTOS, encoded

SIZE = (48, 40)


def preprocessing(side: int) -> ImagePreprocessing:
    """Without negative weights, so that two passes of resizing clip nothing in between."""
    return ImagePreprocessing(
        height=side,
        width=side,
        crop_fraction=0.875,
        resample="bilinear",
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        source="a test",
    )


def small_files() -> dict[str, bytes]:
    """Files of 1 to 8 KB by a name that starts with the format."""
    photo = Image.open(PHOTOS / "chelsea.png").convert("RGB").resize(SIZE)
    grey = photo.convert("L")
    faded = photo.copy()
    faded.putalpha(Image.linear_gradient("L").resize(SIZE))
    sixteen_bits = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {f"PNG {mode}": encoded(photo.convert(mode)) for mode in ("1", "L", "P", "RGB")}
    files |= {f"PNG {mode}": encoded(faded.convert(mode)) for mode in ("LA", "RGBA")}
    files |= {
        "PNG I;16": encoded(sixteen_bits),
        "PNG L, one transparent": encoded(grey, transparency=grey.getpixel((9, 9))),
        "PNG RGB, one transparent": encoded(photo, transparency=photo.getpixel((9, 9))),
        "PNG P, alphas": encoded(photo.convert("P"), transparency=bytes(range(256))),
        "PNG on its side": encoded(photo, exif=exif),
        "JPEG on its side": encoded(photo, "JPEG", exif=exif),
        "JPEG progressive": encoded(photo, "JPEG", progressive=True),
        "JPEG with restarts": encoded(photo, "JPEG", restart_marker_blocks=2),
        "WEBP RGB": encoded(photo, "WEBP"),
        "WEBP RGBA": encoded(faded, "WEBP"),
        "WEBP lossless": encoded(faded, "WEBP", lossless=True),
    }
    return files | {
        f"JPEG {mode}": encoded(photo.convert(mode), "JPEG") for mode in ("L", "RGB", "CMYK")
    }


def flip(data: bytes, at: int, size: int) -> bytes:
    """One bit is another."""
    return data[:at] + bytes([data[at] ^ 1 << (size - 1)]) + data[at + 1 :] if data else data


def cut(data: bytes, at: int, size: int) -> bytes:
    """The rest is missing."""
    return data[:at]


def zero(data: bytes, at: int, size: int) -> bytes:
    """Some bytes are 0."""
    return data[:at] + bytes(len(data[at : at + size])) + data[at + size :]


def drop(data: bytes, at: int, size: int) -> bytes:
    """Some bytes are missing."""
    return data[:at] + data[at + size :]


def with_right_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what they hold now."""
    mended, at = bytearray(data), 8
    while at + 12 <= len(mended):
        (length,) = struct.unpack_from(">I", mended, at)
        end = at + 8 + length
        if end + 4 > len(mended):
            break
        struct.pack_into(">I", mended, end, zlib.crc32(bytes(mended[at + 4 : end])))
        at = end + 4
    return bytes(mended)


def loaded(data: bytes) -> Image.Image:
    """What Pillow makes of all of a file, or whatever it raises."""
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    image.load()
    return image


def plainly_preprocessed(image: Image.Image, spec: ImagePreprocessing) -> np.ndarray:
    """The whole image is turned, converted, cropped and resized, one after the other."""
    with suppress(Exception):  # broken EXIF says nothing about the pixels
        image = ImageOps.exif_transpose(image)
    if image.mode == "I;16":
        image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
    elif image.has_transparency_data:
        colour = image.info.get("transparency")
        if isinstance(colour, tuple):  # of samples of 8 bits the upper byte does not count
            image.info["transparency"] = tuple(level % 256 for level in colour)
        elif image.mode == "L":
            image.info["transparency"] %= 256
        levels_HWC = np.asarray(image.convert("RGBA")).astype(float)
        opacity_HW1 = levels_HWC[..., 3:] / 255
        on_white_HWC = levels_HWC[..., :3] * opacity_HW1 + 255 * (1 - opacity_HW1)
        image = Image.fromarray(np.rint(on_white_HWC).astype(np.uint8))
    side = int(spec.crop_fraction * min(image.size))
    left, top = ((length - side + 1) // 2 for length in image.size)
    square = image.convert("RGB").crop((left, top, left + side, top + side))
    return np.asarray(square.resize((spec.width, spec.height), Image.Resampling.BILINEAR))
