"""The bytes of an image file to pixels, as an artifact's preprocessing describes.

H, W = pixels, C = 3 channels in the order R, G, B.
"""

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress

import numpy as np

# Pillow imports all its formats when it meets one that is not imported yet. That takes a quarter of
# a second, which the first WebP, or the first bytes that are not an image, would have to wait for.
from PIL import Image, ImageFile, WebPImagePlugin  # noqa: F401

from shipway.payloads.errors import BadImage, ImageTooLarge, NotAnImage
from shipway.payloads.image_fit import (
    Size,
    averaged,
    fitted_size,
    framed,
    resized,
    shrunk_to,
    side_of,
)
from shipway.recipe import ImagePreprocessing

FORMATS = ("JPEG", "PNG", "WEBP")
"""As Pillow names them."""
MAX_PIXELS = 50_000_000
"""Of a JPEG: 50 megapixels, as the largest common phone cameras have. libjpeg scales it while it is
decoded; a progressive one takes 300 MB."""
MAX_PNG_PIXELS = 25_000_000
"""Of a PNG, which is decoded whole: 4 bytes a pixel, and as many again to convert it."""
MAX_WEBP_PIXELS = 20_000_000
"""Of a WebP: libwebp keeps two pictures, and Pillow makes two of them, of 4 bytes a pixel."""
MAX_PIXELS_OF = {"JPEG": MAX_PIXELS, "PNG": MAX_PNG_PIXELS, "WEBP": MAX_WEBP_PIXELS}
MAX_REQUEST_PIXELS = 100_000_000
"""Of all images of one request, which may have 1,024."""
MAX_SCANNED_PIXELS = 1_000_000_000
"""Of a JPEG, in all its scans. Progressive ones have about ten; a small file may have thousands,
and each goes over the whole image."""
LEAST_SCANNED = 100_000
"""Pixels that a scan counts for at least: a small one costs its overhead."""
LARGE_PIXELS, LARGE_JPEG_PIXELS = 8_000_000, 25_000_000
"""Images with more are decoded one after the other, so that the memory that this process needs for
them is that of one."""

# Pillow warns of large images, which are refused below, and of harmless oddities in files. The
# filters are set once, because images are decoded in threads and `catch_warnings` is not
# thread-safe.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")

_one_at_a_time = threading.Lock()
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

_16_BITS = ";16B"
"""How Pillow's names of a PNG's 16-bit samples end. Their upper byte is taken, as Pillow does for
colours, and OpenCV and TensorFlow for all (`png_set_strip_16`), through which models see them in
training. Rounding (libpng's `png_set_scale_16`) differs by one level at most."""
_FEW_LEVELS = 16
"""What 8 bits keep of 12-bit samples that were stored in 16 bits without being scaled."""
_BITS = {"L;2": 2, "L;4": 4, "I;16B": 16}
_WIDENED_BY = {"L;2": 0x55, "L;4": 0x11}
"""Grey samples by Pillow's name of their form in the file: their bits, 8 if not given, and what
Pillow multiplies them with. Samples of one bit, and the transparent one, are 0 or 255 already."""
_BITS_PER_PIXEL = {"1": 1, "L;2": 2, "L;4": 4, "L": 8, "I;16B": 16, "LA": 16, "LA;16B": 32}
_BITS_PER_PIXEL |= {"P;1": 1, "P;2": 2, "P;4": 4, "P": 8}
_BITS_PER_PIXEL |= {"RGB": 24, "RGB;16B": 48, "RGBA": 32, "RGBA;16B": 64}
_ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4)]
_ADAM7 += [(1, 0, 2, 2), (0, 1, 1, 2)]
"""Of each pass of an interlaced PNG: its first column and row, and the steps to the next ones."""
_CHUNK_HEADER = struct.Struct(">I4s")
_CRC_BYTES = 4
_INFLATE_AT_ONCE = 2**16
_FEW_PIXELS = 2**20
"""Of an image that is small enough to be kept beside what is made of it."""
_PALETTE = 256
"""A PNG's palette has no more colours; a longer list of alphas is cut."""


def decode_image(data: bytes | bytearray | memoryview, spec: ImagePreprocessing) -> np.ndarray:
    """The pixels of one image file: uint8 (H, W, C), as `decode_photo` gives them."""
    return decode_photo(data, spec)[0]


def decode_photo(
    data: bytes | bytearray | memoryview, spec: ImagePreprocessing
) -> tuple[np.ndarray, tuple[int, int]]:
    """The pixels of one image file: uint8 (H, W, C), upright; with one or three channels on white
    where the image is transparent. And the width and height of the whole upright image.

    Raises NotAnImage, BadImage or ImageTooLarge. A file is called damaged (BadImage) exactly when
    Pillow's `load` of the whole image raises, and when a PNG has fewer rows than its header says.
    """
    image = _open(data)
    width, height = image.size
    most = LARGE_JPEG_PIXELS if _is_jpeg(image) else LARGE_PIXELS
    with _one_at_a_time if width * height > most else nullcontext():
        kept, orientation = _kept(image, data, spec)
        del image  # its decoder may hold two pictures more
        if orientation in _SWAPS_SIDES:
            width, height = height, width
        size = fitted_size(width, height, spec)
        if orientation in _SWAPS_SIDES:
            size = Size(*size[::-1])
        if spec.fit != "crop":  # a square has no such proportions
            kept = averaged(kept, size)
        pixels_HWC = resized(kept, size, spec.resample)
        del kept  # before the next large one begins
    if upright := _UPRIGHT.get(orientation):
        # Last, because the picture is small by now, and turning keeps it centred.
        pixels_HWC = upright(pixels_HWC)
    return np.ascontiguousarray(framed(pixels_HWC, spec)), (width, height)


def _open(data: bytes | bytearray | memoryview) -> ImageFile.ImageFile:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(
            f"The image is far over the limit of {MAX_PIXELS // 10**6} megapixels. "
            "Send a smaller one."
        ) from error
    except Image.UnidentifiedImageError as error:
        if name := _format_of(data):
            raise BadImage(
                f"The header of the {name} image is damaged, or of a kind that is not supported. "
                "Send the complete file, with 8 or 16 bits a channel."
            ) from error
        raise NotAnImage(
            f"Unsupported image format: {len(data)} bytes that start with {bytes(data[:8])!r}. "
            "Send JPEG, PNG or WebP."
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # broken files raise a dozen types, KeyError and SyntaxError too
        raise BadImage(
            f"The image's header could not be read: {error}. Send the complete file."
        ) from error
    width, height = image.size
    most = MAX_PIXELS_OF["JPEG" if _is_jpeg(image) else image.format or ""]
    if width * height > most:
        raise ImageTooLarge(
            f"The {image.format} image has {width}×{height} pixels, {width * height / 1e6:.0f} "
            f"megapixels; at most {most // 10**6} are accepted. Send a smaller one."
        )
    if _is_jpeg(image):
        # In compressed data a 0 follows each byte of 255, so that these two start a scan.
        scans = bytes(data).count(b"\xff\xda")
        if scans * max(width * height, LEAST_SCANNED) > MAX_SCANNED_PIXELS:
            raise ImageTooLarge(
                f"The JPEG image has {scans:,} scans over {width}×{height} pixels, which would "
                "take too long. Save it again: progressive ones have about ten scans."
            )
    return image


def _is_jpeg(image: ImageFile.ImageFile) -> bool:
    """Also of one that has others behind it, such as a gain map or the second eye's picture: Pillow
    calls that another format, and opens the first."""
    return image.format in ("JPEG", "MPO")


def check_together(images: Sequence[bytes | bytearray | memoryview]) -> None:
    """Raises ImageTooLarge if the images of one request have too many pixels together. Only headers
    are read; one that cannot be read counts for nothing here."""
    pixels = 0
    for data in images if len(images) > 1 else ():
        with suppress(BadImage, ImageTooLarge, NotAnImage), _open(data) as image:
            pixels += image.size[0] * image.size[1]
    if pixels > MAX_REQUEST_PIXELS:
        raise ImageTooLarge(
            f"The {len(images):,} images have {pixels / 1e6:.0f} megapixels together; at most "
            f"{MAX_REQUEST_PIXELS // 10**6} are accepted in a request. Send several requests."
        )


def _format_of(data: bytes | bytearray | memoryview) -> str | None:
    """Which of the accepted formats the first bytes announce."""
    for name in FORMATS:
        accept = Image.OPEN[name][1]
        if accept and accept(bytes(data[:16])):
            return name
    return None


def _kept(
    image: ImageFile.ImageFile, data: bytes | bytearray | memoryview, spec: ImagePreprocessing
) -> tuple[Image.Image, int]:
    """What is kept of an image, in the program's colours and as it is stored, and the EXIF
    orientation. The image itself is not to be used any more."""
    if image.mode == "CMYK" and "adobe" not in image.info:
        raise BadImage(
            "The CMYK JPEG has no Adobe marker, so it is unknown whether its inks are inverted. "
            "Send RGB."
        )
    width, height = image.size
    needed = shrunk_to(width, height, spec) * _SCALED_DECODING_GAP
    if _is_jpeg(image):
        image.draft(None, (max(1, int(width * needed)), max(1, int(height * needed))))
    stored = _load(image, data)
    orientation = _orientation(image)
    box = np.array([0, 0, width, height])
    if spec.fit == "crop":
        side = side_of(width, height, spec)
        # If the centre lies between two pixels, it is the later one of the upright picture.
        left = (width - side + (orientation not in _MIRRORED_X)) // 2
        top = (height - side + (orientation not in _MIRRORED_Y)) // 2
        box = np.array([left, top, left + side, top + side])
    if image.size != (width, height):
        box = np.rint(box * np.tile(np.divide(image.size, (width, height)), 2)).astype(int)
    if tuple(box) == (0, 0, *image.size) and width * height < _FEW_PIXELS:  # all of it
        return _in_colours(image, stored, spec.channels), orientation
    kept = image.crop(tuple(box.tolist()))
    image.close()  # its pixels are not needed any more, and may be 200 MB
    return _in_colours(kept, stored, spec.channels), orientation


def _load(image: ImageFile.ImageFile, data: bytes | bytearray | memoryview) -> str:
    """Decodes all pixels, once; the name of their form in a PNG, as Pillow spells it.

    Only the first `load` of a broken file raises; each later one, and whatever calls it, as
    `crop` and a PNG's `getexif` do, takes the rows that are missing for black ones.
    """
    tile = image.tile[0] if image.tile else None
    interlaced = bool(image.info.get("interlace"))
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # broken files raise a dozen types, struct.error and KeyError too
        raise BadImage(
            f"The {image.format} image could not be decoded: {error}. Send the complete file."
        ) from error
    if not (image.format == "PNG" and tile and isinstance(tile.args, str)):
        return ""
    if tile.extents != (0, 0, *image.size):
        return tile.args
    # Pillow leaves rows blank, without an error, where the compressed stream is whole but too
    # short. Such a row may also be in the file: only the stream's length tells. To count that takes
    # less time than to look at a row, if it is short.
    needed = _png_bytes(image.size, _BITS_PER_PIXEL[tile.args], interlaced)
    if (interlaced or needed < _INFLATE_AT_ONCE or _is_blank(image, row=-1)) and _inflated_bytes(
        data, tile.offset - _CHUNK_HEADER.size, needed
    ) < needed:
        raise BadImage("The PNG image has fewer rows than its header says. Send all of it.")
    return tile.args


def _is_blank(image: Image.Image, row: int) -> bool:
    width, height = image.size
    return not any(image.crop((0, row % height, width, row % height + 1)).tobytes())


def _png_bytes(size: tuple[int, int], bits_per_pixel: int, interlaced: bool) -> int:
    """How many bytes the rows of a PNG take, each with a byte for its filter."""
    total = 0
    for x, y, step_x, step_y in _ADAM7 if interlaced else [(0, 0, 1, 1)]:
        columns, rows = -((x - size[0]) // step_x), -((y - size[1]) // step_y)
        if columns > 0:
            total += rows * (1 + (columns * bits_per_pixel + 7) // 8)
    return total


def _inflated_bytes(data: bytes | bytearray | memoryview, at: int, enough: int) -> int:
    """The length of what the IDAT chunks from `at` on hold, counted to about `enough`."""
    inflater, total = zlib.decompressobj(), 0
    while total < enough and at + _CHUNK_HEADER.size <= len(data):
        length, kind = _CHUNK_HEADER.unpack_from(data, at)
        at += _CHUNK_HEADER.size
        packed = bytes(data[at : at + length]) if kind == b"IDAT" else b""
        while packed and total < enough:
            try:
                total += len(inflater.decompress(packed, _INFLATE_AT_ONCE))
            except zlib.error:  # behind the last row, or Pillow would have raised
                return enough
            packed = inflater.unconsumed_tail
        at += length + _CRC_BYTES
    return total


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF says nothing about the pixels
        return 1


def _in_colours(kept: Image.Image, stored: str, channels: int) -> Image.Image:
    """In grey, RGB or RGBA. `stored` is what `_load` returns."""
    if channels == 4:
        return _with_alpha(kept, stored).convert("RGBA")
    opaque = _with_alpha(kept, stored)
    if opaque.mode in ("LA", "RGBA"):
        white = Image.new("RGB", opaque.size, "white")
        white.paste(opaque, mask=opaque)
        opaque = white
    mode = "L" if channels == 1 else "RGB"
    return opaque if opaque.mode == mode else opaque.convert(mode)


def _with_alpha(square: Image.Image, stored: str) -> Image.Image:
    """The picture with 8 bits a channel, and with an alpha channel if anything is transparent."""
    # Of a PNG's tRNS chunk: one colour, or the alphas of a palette. A PNG's text chunks can put a
    # string in its place.
    transparent = square.info.pop("transparency", None)
    if square.mode == "I;16" or (square.mode in ("1", "L") and isinstance(transparent, int)):
        return _grey(square, stored, transparent if isinstance(transparent, int) else None)
    if stored.endswith(_16_BITS):
        colours = np.array(square.getextrema())[:3]
        _check_levels(int(colours.max()))
    if square.mode == "RGB" and isinstance(transparent, tuple):
        if stored.endswith(_16_BITS):
            # Pillow drops the lower bytes, and other colours share the upper ones.
            raise BadImage(
                "The 16-bit PNG names a transparent colour (tRNS). Send it with an alpha channel."
            )
        square.info["transparency"] = tuple(level & 0xFF for level in transparent)
        square = square.convert("RGBA")
    elif square.mode == "P" and isinstance(transparent, int | bytes):
        alphas = transparent if isinstance(transparent, bytes) else b"\xff" * transparent + b"\0"
        square.info["transparency"] = alphas[:_PALETTE]
        square = square.convert("RGBA")
    return square


def _grey(square: Image.Image, stored: str, transparent: int | None) -> Image.Image:
    levels_HW = np.array(square.convert("L") if square.mode == "1" else square)
    if transparent is not None:
        # Pillow widens samples of 2 and 4 bits to 8, but not the transparent one.
        transparent = transparent % 2 ** _BITS.get(stored, 8) * _WIDENED_BY.get(stored, 1)
        holes_HW = levels_HW == transparent
    if square.mode == "I;16":
        levels_HW = (levels_HW >> 8).astype(np.uint8)
        _check_levels(int(levels_HW.max()))
    grey = Image.fromarray(levels_HW)
    if transparent is not None:
        grey.putalpha(Image.fromarray(np.where(holes_HW, 0, 255).astype(np.uint8)))
    return grey


def _check_levels(brightest: int) -> None:
    """Raises BadImage if a 16-bit image has next to no levels left in 8 bits."""
    if brightest < _FEW_LEVELS:
        raise BadImage(
            f"The 16-bit PNG has no sample above {256 * _FEW_LEVELS - 1} of 65535, so at most "
            f"{_FEW_LEVELS} levels would be left in 8 bits. Scale its samples to the whole range."
        )
