"""From the bytes of an image file to pixels, as an artifact's preprocessing says.

H, W = pixels, C = 3 channels in the order R, G, B.
"""

import io
import struct
import warnings

import numpy as np
from PIL import Image

from shipway.artifact.manifest import ImagePreprocessing
from shipway.runtime.errors import BadImage, ImageTooLarge, NotAnImage

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 50_000_000
"""50 megapixels: the largest common phone cameras, and 150 MB of RGB while it is decoded."""

# Pillow warns of large images, which are refused below, and of harmless oddities in files. Once and
# for all, since decoding happens in threads and `catch_warnings` is not safe there.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF 2.32, table 6: what turns each stored orientation upright."""

_SWAPS_SIDES = {_UPRIGHT[orientation] for orientation in (5, 6, 7, 8)}

_SCALED_DECODING_GAP = 2.0
"""How much larger than needed a JPEG may still be after libjpeg has scaled it. Pillow's own
documentation of `reducing_gap` finds 2.0 hard to tell from resizing the whole picture."""


def decode_image(data: bytes | bytearray | memoryview, spec: ImagePreprocessing) -> np.ndarray:
    """The pixels of one image file: uint8, (height, width, 3), upright, RGB.

    Raises NotAnImage, BadImage or ImageTooLarge, each saying what was found.
    """
    image = _open(data)
    try:
        return _pixels(image, spec)
    # Pillow's decoders raise all of these for broken files, and SyntaxError for a broken PNG.
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error) as error:
        raise BadImage(
            f"The {image.format} image could not be decoded: {error}. Is the file complete?"
        ) from error


def _open(data: bytes | bytearray | memoryview) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(
            f"The image is far over the limit of {MAX_PIXELS // 10**6} megapixels. "
            "Send a smaller one."
        ) from error
    except Image.UnidentifiedImageError as error:
        raise NotAnImage(
            f"The {len(data)} bytes that start with {bytes(data[:8])!r} are no image that is "
            f"known here; {', '.join(FORMATS)} are."
        ) from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error) as error:
        raise BadImage(f"The image's header could not be read: {error}.") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageTooLarge(
            f"The image is {width}×{height}, {width * height / 1e6:.0f} megapixels; "
            f"at most {MAX_PIXELS // 10**6} are accepted. Send a smaller one."
        )
    return image


def _pixels(image: Image.Image, spec: ImagePreprocessing) -> np.ndarray:
    turned = _UPRIGHT.get(_orientation(image))
    crop = int(spec.crop_fraction * min(image.size))
    if crop < 1:
        raise ValueError(f"{image.width}×{image.height} pixels leave nothing to crop")
    width, height = image.size
    # The whole picture's box, so that decoding at a smaller scale changes its unit only.
    box = np.array([width - crop, height - crop, width + crop, height + crop]) / 2
    if image.format == "JPEG":
        needed = max(spec.width, spec.height) * _SCALED_DECODING_GAP / crop
        image.draft(None, (int(width * needed), int(height * needed)))
        box = box * np.tile(np.divide(image.size, (width, height)), 2)
    image = _to_rgb(image)
    size = (spec.width, spec.height)
    if turned in _SWAPS_SIDES:
        size = (spec.height, spec.width)
    image = image.resize(size, _RESAMPLING[spec.resample], box=tuple(box.tolist()))
    if turned is not None:  # last: a centred square turns into itself, and is small by now
        image = image.transpose(turned)
    return np.asarray(image)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # EXIF is written by anything; a broken one says nothing of the pixels
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a channel: keep the upper eight
        levels = np.asarray(image).astype(np.int64) >> 8
        image = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")
