import io
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.nn.functional import interpolate

from shipway.payloads.errors import BadImage, ImageTooLarge, NotAnImage
from shipway.payloads.images import (
    MAX_PIXELS_OF,
    check_together,
    decode_image,
)
from tests.conftest import PHOTOS, encoded

ORIENTATION = 0x0112
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
"""A PNG's types of colour."""


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.open(PHOTOS / "chelsea.png").convert("RGB")


def centred_square(image: Image.Image, spec) -> np.ndarray:
    """The plain way: crop, then resize."""
    crop = int(spec.crop_fraction * min(image.size))
    left, top = ((length - crop + 1) // 2 for length in image.size)
    square = image.crop((left, top, left + crop, top + crop))
    return np.asarray(square.resize((spec.width, spec.height), Image.Resampling.BICUBIC))


def chunk(kind: bytes, content: bytes) -> bytes:
    length, checksum = struct.pack(">I", len(content)), zlib.crc32(kind + content)
    return length + kind + content + struct.pack(">I", checksum)


def png(
    samples: np.ndarray,
    depth: int,
    colour: int,
    *chunks: bytes,
    interlace: bool = False,
    missing_rows: int = 0,
) -> bytes:
    """A PNG of samples (H, W, C), for the kinds that Pillow does not write."""
    first = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    passes = [*first, (0, 1, 1, 2)] if interlace else [(0, 0, 1, 1)]
    rows = []
    for x, y, step_x, step_y in passes:
        for row_WC in samples[y::step_y, x::step_x]:
            bits = (row_WC.reshape(-1, 1) >> np.arange(depth - 1, -1, -1)) & 1
            rows.append(b"\0" + np.packbits(bits.astype(np.uint8)).tobytes())
    pixels = zlib.compress(b"".join(rows[: len(rows) - missing_rows]))
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    content = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(content)


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


@pytest.mark.parametrize("filter", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_picture_of_the_models_own_size_keeps_its_pixels(photo, spec, filter, orientation):
    own = spec.model_copy(update={"crop_fraction": 1.0, "resample": filter})
    picture = photo.crop((40, 30, 40 + spec.width, 30 + spec.height))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    # By way of a filter, which gives every other pixel no weight here.
    resized = picture.resize(picture.size, getattr(Image.Resampling, filter.upper()))
    upright = resized.rotate(-90) if orientation == 6 else resized
    found = decode_image(encoded(picture, exif=exif), own)
    assert found.flags.c_contiguous and np.array_equal(found, np.asarray(upright))


@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
@pytest.mark.parametrize("sides", [(224, 224), (17, 300), (500, 333)])  # smaller and larger
def test_pixels_are_those_of_torchs_own_function_to_the_bit(photo, spec, filter, sides):
    height, width = sides
    asked = {"crop_fraction": 1.0, "resample": filter, "height": height, "width": width}
    square = photo.crop((0, 0, 241, 241))
    found = decode_image(encoded(square, "PNG"), spec.model_copy(update=asked))
    pixels_1CHW = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None]
    expected_1CHW = interpolate(pixels_1CHW, sides, mode=filter, antialias=True)
    assert np.array_equal(found, expected_1CHW[0].permute(1, 2, 0).numpy())


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


@pytest.mark.parametrize("damage", ["flipped", "cut", "zeroed"])
def test_a_png_with_a_broken_stream_is_no_black_picture(photo, spec, damage):
    data = bytearray(encoded(photo))
    middle = len(data) // 2
    if damage == "flipped":
        data[middle] ^= 1
    elif damage == "zeroed":
        data[middle : middle + 64] = bytes(64)
    else:  # half of the stream, in a chunk that is whole
        start = data.index(b"IDAT") + 4
        data = data[: start - 8] + chunk(b"IDAT", bytes(data[start:middle]))
        data += chunk(b"IEND", b"")
    with pytest.raises(BadImage, match="The PNG image could not be decoded: .* complete file"):
        decode_image(bytes(data), spec)


@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize("missing_rows", [1, 20])
@pytest.mark.parametrize(("colour", "channels"), [(GREY, 1), (RGB, 3), (RGB_ALPHA, 4)])
def test_a_png_with_too_few_rows_is_no_black_picture(
    spec, colour, channels, missing_rows, interlace
):
    samples = np.full((63, 61, channels), 200)
    whole = png(samples, 8, colour, interlace=interlace)
    assert decode_image(whole, spec).all()
    data = png(samples, 8, colour, interlace=interlace, missing_rows=missing_rows)
    Image.open(io.BytesIO(data)).load()  # fills it with black
    with pytest.raises(BadImage, match="fewer rows than its header says"):
        decode_image(data, spec)


@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_png_whose_last_rows_are_black_is_accepted(spec, depth, interlace):
    data = png(np.zeros((63, 61, 1), int), depth, GREY, interlace=interlace)
    assert not decode_image(data, spec).any()


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_damaged_header_is_not_called_another_format(photo, spec, format):
    data = bytearray(encoded(photo, format))
    data[18:24] = b"\xff" * 6
    if format == "JPEG":
        data = data[:4]
    with pytest.raises(BadImage, match=f"The header of the {format} image is damaged"):
        decode_image(bytes(data), spec)


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
    with pytest.raises(ImageTooLarge, match=r"10000×10000 pixels, 100 megapixels; at most 25"):
        decode_image(data, spec)


def test_a_decompression_bomb_is_refused(spec):
    data = bytearray(encoded(Image.new("1", (100, 100))))
    data[16:24] = (65_000).to_bytes(4, "big") * 2  # the header's width and height
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(ImageTooLarge):
        decode_image(bytes(data), spec)


@pytest.mark.parametrize(("kind", "most"), MAX_PIXELS_OF.items())
def test_the_largest_accepted_image_is_accepted(spec, kind, most):
    picture = Image.new("RGB" if kind == "WEBP" else "L", (most // 5_000, 5_000))
    data = encoded(picture, kind)
    assert decode_image(data, spec).shape == (32, 32, 3)
    with pytest.raises(ImageTooLarge, match=f"The {kind} image .* at most {most // 10**6}"):
        decode_image(encoded(picture.resize((most // 5_000 + 1, 5_000)), kind), spec)


@pytest.mark.parametrize("lossless", [True, False])
def test_a_webp_is_decoded_whole_so_it_may_have_fewer_pixels_than_a_jpeg(spec, lossless):
    buffer = io.BytesIO()
    Image.new("RGB", (8_000, 4_000)).save(buffer, "WEBP", lossless=lossless, method=0)
    with pytest.raises(ImageTooLarge, match="The WEBP image has 8000×4000 pixels, 32 megapixels"):
        decode_image(buffer.getvalue(), spec)


def test_a_jpeg_with_another_behind_it_is_decoded_as_the_first(photo, spec):
    buffer = io.BytesIO()
    large = photo.resize((3_000, 2_400))
    large.save(buffer, "MPO", save_all=True, append_images=[photo.rotate(180)])
    assert Image.open(io.BytesIO(buffer.getvalue())).format == "MPO"
    alone = decode_image(encoded(large, "JPEG"), spec)
    assert np.array_equal(decode_image(buffer.getvalue(), spec), alone)


def test_a_jpeg_of_thousands_of_scans_is_refused_at_once(photo, spec):
    data = encoded(photo.convert("RGB"), "JPEG", progressive=True)
    first = data.index(b"\xff\xda")
    end = data.index(b"\xff\xc4", first)  # the tables of the second scan
    bomb = data[:first] + 60_000 * data[first:end] + data[first:]
    start = time.process_time()
    with pytest.raises(ImageTooLarge, match=r"has 60,0\d\d scans .* about ten scans"):
        decode_image(bomb, spec)
    assert time.process_time() - start < 0.5
    assert decode_image(data, spec).shape == (32, 32, 3)


def test_the_images_of_one_request_share_a_budget_that_their_headers_tell():
    large = encoded(Image.new("1", (5_000, 4_000)))  # 20 megapixels, 2.5 KB
    check_together([large] * 5)
    check_together([b"no image"] * 100)
    start = time.process_time()
    with pytest.raises(ImageTooLarge, match="The 160 images have 3200 megapixels together"):
        check_together([large] * 160)
    assert time.process_time() - start < 1


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


# What is transparent, and what has other than 8 bits a channel ------------------------------------

BLUE, HALF_BLUE_ON_WHITE, WHITE = [0, 0, 255], [127, 127, 255], [255, 255, 255]


def left_and_right(data: bytes, spec) -> list[list[int]]:
    pixels = decode_image(data, spec.model_copy(update={"crop_fraction": 1.0}))
    return [pixels[5, 3].tolist(), pixels[5, -3].tolist()]


def halves(left: Sequence[int], right: Sequence[int]) -> np.ndarray:
    """Samples of 32 × 32 pixels."""
    return np.array([[left] * 16 + [right] * 16] * 32)


@pytest.mark.parametrize(
    ("samples", "depth", "colour", "trns", "expected"),
    [
        (halves([0, 0, 255, 255], [9, 9, 9, 0]), 8, RGB_ALPHA, b"", [BLUE, WHITE]),
        (halves([0, 0, 255, 128], [9, 9, 9, 0]), 8, RGB_ALPHA, b"", [HALF_BLUE_ON_WHITE, WHITE]),
        (
            halves([0, 0, 65535, 32896], [9000] * 3 + [0]),
            16,
            RGB_ALPHA,
            b"",
            [HALF_BLUE_ON_WHITE, WHITE],
        ),
        (halves([51, 255], [51, 128]), 8, GREY_ALPHA, b"", [[51] * 3, [153] * 3]),
        (halves([51 * 257, 65535], [51 * 257, 0]), 16, GREY_ALPHA, b"", [[51] * 3, WHITE]),
        (halves([0, 0, 255], [9, 9, 9]), 8, RGB, struct.pack(">3H", 9, 9, 9), [BLUE, WHITE]),
        (halves([8], [9]), 8, GREY, struct.pack(">H", 9), [[8] * 3, WHITE]),
        (halves([1], [2]), 2, GREY, struct.pack(">H", 2), [[85] * 3, WHITE]),
        (halves([1], [2]), 4, GREY, struct.pack(">H", 2), [[17] * 3, WHITE]),
        (halves([1], [0]), 1, GREY, struct.pack(">H", 0), [WHITE, WHITE]),
        (halves([0], [1]), 1, GREY, struct.pack(">H", 1), [[0] * 3, WHITE]),
        # Both are 32 by their upper byte. Only one is the transparent colour.
        (halves([8193], [8192]), 16, GREY, struct.pack(">H", 8192), [[32] * 3, WHITE]),
        (halves([0], [1]), 8, PALETTE, b"\xff\x00", [BLUE, WHITE]),
        (halves([0], [1]), 8, PALETTE, b"\x80\x00", [HALF_BLUE_ON_WHITE, WHITE]),
        (halves([0], [1]), 1, PALETTE, b"\x80\xff", [HALF_BLUE_ON_WHITE, [9, 9, 9]]),
        (halves([0], [1]), 2, PALETTE, b"\x00", [WHITE, [9, 9, 9]]),
        (halves([0], [1]), 4, PALETTE, b"\xff" * 300 + b"\x00", [BLUE, [9, 9, 9]]),
        (halves([0], [1]), 4, PALETTE, b"\xff" * 300 + b"\x01", [BLUE, [9, 9, 9]]),
    ],
)
def test_what_is_transparent_is_composited_on_white(spec, samples, depth, colour, trns, expected):
    chunks = [chunk(b"PLTE", bytes([*BLUE, 9, 9, 9]))] if colour == PALETTE else []
    chunks += [chunk(b"tRNS", trns)] if trns else []
    assert left_and_right(png(samples, depth, colour, *chunks), spec) == expected


def test_a_webp_is_composited_on_white(spec):
    image = Image.fromarray(halves([0, 0, 255, 128], [9, 9, 9, 0]).astype(np.uint8))
    data = encoded(image, "WEBP", lossless=True)
    assert left_and_right(data, spec) == [HALF_BLUE_ON_WHITE, WHITE]


@pytest.mark.parametrize(("colour", "channels"), [(GREY, 1), (RGB, 3), (PALETTE, 1)])
def test_a_text_called_transparency_makes_nothing_transparent(spec, colour, channels):
    chunks = [chunk(b"PLTE", bytes([0, 0, 0, 9, 9, 9]))] if colour == PALETTE else []
    chunks.append(chunk(b"tEXt", b"transparency\0\1"))
    samples = halves([0] * channels, [1] * channels)
    nine = [9] * 3 if colour == PALETTE else [1] * 3
    assert left_and_right(png(samples, 8, colour, *chunks), spec) == [[0] * 3, nine]


@pytest.mark.parametrize(("colour", "channels"), [(GREY, 1), (RGB, 3)])
def test_of_sixteen_bits_the_upper_eight_are_taken(spec, colour, channels):
    levels = np.random.default_rng(0).integers(0, 65536, (32, 32, channels))
    found = decode_image(
        png(levels, 16, colour), spec.model_copy(update={"crop_fraction": 1.0, "height": 32})
    )
    assert np.array_equal(found, np.broadcast_to(levels >> 8, (32, 32, 3)))


@pytest.mark.parametrize(
    ("colour", "channels"), [(GREY, 1), (RGB, 3), (GREY_ALPHA, 2), (RGB_ALPHA, 4)]
)
def test_samples_of_twelve_bits_do_not_become_sixteen_grey_levels(spec, colour, channels):
    levels = np.random.default_rng(0).integers(0, 4096, (32, 32, channels))
    if channels in (2, 4):
        levels[..., -1] = 65535
    with pytest.raises(BadImage, match="no sample above 4095 of 65535.* Scale its samples"):
        decode_image(png(levels, 16, colour), spec)
    levels[16, 16] = 4096
    assert decode_image(png(levels, 16, colour), spec).shape == (32, 32, 3)


def test_a_transparent_colour_of_sixteen_bits_is_refused(spec):
    trns = chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))
    with pytest.raises(BadImage, match="names a transparent colour .* alpha channel"):
        decode_image(png(halves([60000] * 3, [9000] * 3), 16, RGB, trns), spec)


def test_a_cmyk_jpeg_that_may_be_inverted_is_refused(photo, spec):
    data = encoded(photo.convert("CMYK"), "JPEG")
    marker = data.index(b"\xff\xee")
    length = struct.unpack(">H", data[marker + 2 : marker + 4])[0]
    with pytest.raises(BadImage, match="CMYK JPEG has no Adobe marker.* Send RGB"):
        decode_image(data[:marker] + data[marker + 2 + length :], spec)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "1", "I;16"])
def test_an_image_that_is_decoded_whole_takes_ten_bytes_a_pixel(tmp_path, kind):
    path = tmp_path / "large.png"
    Image.new(kind, (5000, 5000), 40_000 if kind == "I;16" else 0).save(path, compress_level=1)
    code = """
import io, re, sys
from pathlib import Path
from PIL import Image
from shipway.payloads.images import decode_image
from shipway.recipe import ImagePreprocessing
spec = ImagePreprocessing(
    height=32, width=32, crop_fraction=1.0, resample="bicubic", mean=(0, 0, 0), std=(1, 1, 1),
    source="a test",
)
def peak_kib():  # of this program alone; ru_maxrss counts what started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
large, small = Path(sys.argv[1]).read_bytes(), io.BytesIO()
Image.new("RGBA", (50, 50)).save(small, "PNG")
decode_image(small.getvalue(), spec)
before = peak_kib()
decode_image(large, spec)
print(1024 * (peak_kib() - before) / 5000**2)
"""
    command = [sys.executable, "-c", code, path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 1 < float(done.stdout) < 10.5
