"""How a picture becomes one of the program's size: cropped, squashed or letterboxed.

H, W = pixels, C = channels.
"""

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from shipway.payloads.errors import BadImage
from shipway.recipe import ImagePreprocessing

MOST_SHRUNK = 64
"""A picture that is longer than so many times its new length is averaged first, in blocks: what one
pixel is made of grows with the length, and so do the tables for it."""
_RESIZE = {
    "bilinear": torch.ops.aten._upsample_bilinear2d_aa.out,
    "bicubic": torch.ops.aten._upsample_bicubic2d_aa.out,
}
"""What torch.nn.functional.interpolate calls with antialias=True. Its own result has the channels
first: to make that and turn it round again takes three times as long as the rest."""


class Size(NamedTuple):
    """In pixels."""

    height: int
    width: int


def side_of(width: int, height: int, spec: ImagePreprocessing) -> int:
    """The side of the centred square that is kept of a picture. Raises BadImage if it has none."""
    side = int(spec.crop_fraction * min(width, height))
    if side < 1:
        raise BadImage(
            f"The image of {width}×{height} pixels is too small to crop. Send a larger image."
        )
    return side


def shrunk_to(width: int, height: int, spec: ImagePreprocessing) -> float:
    """The largest size that a picture is needed in, by its own."""
    largest = max(spec.width, spec.height)
    if spec.fit == "crop":
        return largest / side_of(width, height, spec)
    return largest / (min(width, height) if spec.fit == "squash" else max(width, height))


def fitted_size(width: int, height: int, spec: ImagePreprocessing) -> Size:
    """The size that what is kept of an upright picture is resized to."""
    if spec.fit != "letterbox":
        return Size(spec.height, spec.width)
    scale = min(spec.width / width, spec.height / height)
    return Size(max(1, round(height * scale)), max(1, round(width * scale)))


class Place(NamedTuple):
    """Where along one axis a picture of the program's size lies in the photo."""

    start: int
    """The first pixel of the photo that is kept."""
    kept: int
    """How many are."""
    offset: int
    """Where in the program's picture they begin."""
    inner: int
    """How many of its pixels they became."""
    whole: int
    """How many it has."""

    def runs(self, length: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
        """Which of the `cells` of the program's output along this axis lie at the photo's `length`
        pixels, in order, and at how many, both int64; -1 at those that the program has not seen."""
        # A pixel belongs to the cell in which its middle lies.
        starts = (np.arange(cells + 1) * self.whole / cells - self.offset) * self.kept / self.inner
        edges = np.ceil(self.start + starts - 0.5).clip(self.start, self.start + self.kept)
        edges = np.concatenate([[0], edges.clip(0, length), [length]]).astype(np.int64)
        counts = np.diff(edges)
        cell = np.concatenate([[-1], np.arange(cells), [-1]])
        return cell[counts > 0], counts[counts > 0]


def places(width: int, height: int, spec: ImagePreprocessing) -> tuple[Place, Place]:
    """Of the rows and of the columns of an upright photo."""
    if spec.fit == "crop":
        side = side_of(width, height, spec)
        # If the centre lies between two pixels, it is the later one.
        return (
            Place((height - side + 1) // 2, side, 0, spec.height, spec.height),
            Place((width - side + 1) // 2, side, 0, spec.width, spec.width),
        )
    size = fitted_size(width, height, spec)
    return (
        Place(0, height, (spec.height - size.height) // 2, size.height, spec.height),
        Place(0, width, (spec.width - size.width) // 2, size.width, spec.width),
    )


def framed(pixels_HWC: np.ndarray, spec: ImagePreprocessing) -> np.ndarray:
    """The pixels in the middle of a picture of the program's size, `spec.fill` around them."""
    height, width, channels = pixels_HWC.shape
    if (height, width) == (spec.height, spec.width):
        return pixels_HWC
    whole_HWC = np.full((spec.height, spec.width, channels), spec.fill, np.uint8)
    top, left = (spec.height - height) // 2, (spec.width - width) // 2
    whole_HWC[top : top + height, left : left + width] = pixels_HWC
    return whole_HWC


def averaged(picture: Image.Image, size: Size) -> Image.Image:
    """The picture, or a smaller one of the means of its blocks, from which one of that size can be
    made with little memory."""
    blocks = [
        max(1, length // (MOST_SHRUNK * target))
        for length, target in zip(picture.size, (size.width, size.height), strict=True)
    ]
    return picture if blocks == [1, 1] else picture.reduce((blocks[0], blocks[1]))


def resized(picture: Image.Image, size: Size, resample: str) -> np.ndarray:
    """The pixels (H, W, C), resized and smoothed as by Pillow; where torch has the filter, four
    times as fast by its vector code."""
    if picture.size == (size.width, size.height):
        return _pixels(picture)  # each filter gives its centre all weight, and none to other pixels
    # torch does not know lanczos, and Pillow weighs colours by their alpha.
    if resample == "lanczos" or picture.mode == "RGBA":
        by = getattr(Image.Resampling, resample.upper())
        return _pixels(picture.resize((size.width, size.height), by))
    pixels_HWC = _pixels(picture)
    resized_HWC = np.empty((*size, pixels_HWC.shape[2]), np.uint8)
    pixels_1CHW, resized_1CHW = (
        torch.from_numpy(each).permute(2, 0, 1)[None] for each in (pixels_HWC, resized_HWC)
    )
    _RESIZE[resample](pixels_1CHW, size, False, None, None, out=resized_1CHW)
    return resized_HWC


def _pixels(picture: Image.Image) -> np.ndarray:
    pixels = np.asarray(picture)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
