"""The bytes of an image file to pixels, as an artifact's preprocessing describes.

H, W = pixels, C = 3 channels in the order R, G, B.
"""

import io
import struct
import warnings
from collections.abc import Callable

import numpy as np
import torch

# Pillow imports all its formats when it meets one that is not imported yet. That takes a quarter of
# a second, which the first WebP, or the first bytes that are not an image, would have to wait for.
from PIL import Image, WebPImagePlugin  # noqa: F401
from torch.nn.functional import interpolate

from shipway.payloads.errors import BadImage, ImageTooLarge, NotAnImage
from shipway.recipe import ImagePreprocessing

FORMATS = ("JPEG", "PNG", "WEBP")
"""As Pillow names them."""
MAX_PIXELS = 50_000_000
"""50 megapixels, as the largest common phone cameras have: 150 MB of RGB while it is decoded."""

# Pillow warns of large images, which are refused below, and of harmless oddities in files. The
# filters are set once, because images are decoded in threads and `catch_warnings` is not
# thread-safe.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")

_ORIENTATION = 0x0112
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels_HWC: pixels_HWC[:, ::-1],
    3: lambda pixels_HWC: pixels_HWC[::-1, ::-1],
    4: lambda pixels_HWC: pixels_HWC[::-1],
    5: lambda pixels_HWC: pixels_HWC.transpose(1, 0, 2),
    6: lambda pixels_HWC: np.rot90(pixels_HWC, -1),
    7: lambda pixels_HWC: pixels_HWC[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels_HWC: np.rot90(pixels_HWC),
}
"""By the EXIF orientation (EXIF 2.32, table 6): what turns the stored image upright."""
_SWAPS_SIDES = (5, 6, 7, 8)
_MIRRORED_X = (2, 3, 7, 8)
"""Orientations in which the image is stored mirrored along an axis of the upright picture."""
_MIRRORED_Y = (3, 4, 6, 7)

_SCALED_DECODING_GAP = 2.0
"""How much larger than needed a JPEG may be after libjpeg has scaled it while decoding. Pillow's
documentation of `reducing_gap` calls 2.0 almost indistinguishable from resizing the whole image."""


def decode_image(data: bytes | bytearray | memoryview, spec: ImagePreprocessing) -> np.ndarray:
    """The pixels of one image file: uint8 (H, W, 3), upright, RGB.

    Raises NotAnImage, BadImage or ImageTooLarge.
    """
    image = _open(data)
    try:
        return _pixels(image, spec)
    # Pillow's decoders raise all of these for broken files, and SyntaxError for a broken PNG.
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error) as error:
        raise BadImage(
            f"The {image.format} image could not be decoded: {error}. Send the complete file."
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
            f"Unsupported image format: {len(data)} bytes that start with {bytes(data[:8])!r}. "
            "Send JPEG, PNG or WebP."
        ) from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error) as error:
        raise BadImage(
            f"The image's header could not be read: {error}. Send the complete file."
        ) from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageTooLarge(
            f"The image has {width}×{height} pixels, {width * height / 1e6:.0f} megapixels; "
            f"at most {MAX_PIXELS // 10**6} are accepted. Send a smaller one."
        )
    return image


def _pixels(image: Image.Image, spec: ImagePreprocessing) -> np.ndarray:
    orientation = _orientation(image)
    width, height = image.size
    side = int(spec.crop_fraction * min(width, height))
    if side < 1:
        raise BadImage(
            f"The image of {width}×{height} pixels is too small to crop. Send a larger image."
        )
    # If the centre lies between two pixels, it is the later one of the upright picture.
    left = (width - side + (orientation not in _MIRRORED_X)) // 2
    top = (height - side + (orientation not in _MIRRORED_Y)) // 2
    box = np.array([left, top, left + side, top + side])
    if image.format == "JPEG":
        needed = max(spec.width, spec.height) * _SCALED_DECODING_GAP / side
        image.draft(None, (int(width * needed), int(height * needed)))
        box = np.rint(box * np.tile(np.divide(image.size, (width, height)), 2)).astype(int)
    square_HWC = np.asarray(_to_rgb(image.crop(tuple(box.tolist()))))
    size = (spec.height, spec.width)
    if orientation in _SWAPS_SIDES:
        size = (spec.width, spec.height)
    pixels_HWC = _resized(square_HWC, size, spec.resample)
    if upright := _UPRIGHT.get(orientation):
        # Last, because the square is small by now, and turning keeps it centred.
        pixels_HWC = upright(pixels_HWC)
    return np.ascontiguousarray(pixels_HWC)


def _resized(pixels_HWC: np.ndarray, size: tuple[int, int], resample: str) -> np.ndarray:
    """The pixels resized and smoothed as by Pillow, four times as fast by torch's vector code."""
    if resample == "lanczos":  # which torch does not know
        image = Image.fromarray(pixels_HWC)
        return np.asarray(image.resize(size[::-1], Image.Resampling.LANCZOS))
    pixels_1CHW = torch.from_numpy(pixels_HWC).permute(2, 0, 1)[None]
    resized_1CHW = interpolate(pixels_1CHW, size=size, mode=resample, antialias=True)
    resized_HWC: np.ndarray = resized_1CHW[0].permute(1, 2, 0).numpy()
    return resized_HWC


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF says nothing about the pixels
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a channel: keep the upper eight
        levels = np.asarray(image).astype(np.int64) >> 8
        image = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")
