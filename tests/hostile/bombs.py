"""Files and texts that are small, or within every limit, and that cost as much as they can."""

import base64
import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, PngImagePlugin

JPEG_SIDE, PNG_SIDE, WEBP_SIDE = 7_050, 4_990, 4_470
"""Of squares just within the limits of images.py: 50, 25 and 20 megapixels."""
Made = Callable[[], bytes]


def encoded(image: Image.Image, kind: str, **settings: object) -> bytes:
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def flat(width: int, height: int | None = None, mode: str = "RGB") -> Image.Image:
    """One colour: a file of some kilobytes, whatever its size."""
    return Image.new(mode, (width, height or width), 1 if mode in ("1", "L", "P") else 0)


def smooth(side: int) -> Image.Image:
    """A picture with something in every place."""
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)


def jpeg_of_scans(scans: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    whole = encoded(flat(2_000), "JPEG", progressive=True)
    at = whole.rindex(b"\xff\xda")
    return whole[:at] + whole[at:-2] * scans + whole[-2:]


def png_with(kind: bytes, content: bytes, times: int = 1) -> bytes:
    """A small PNG with further chunks before its pixels."""
    whole = encoded(flat(8), "PNG")
    at = whole.index(b"IDAT") - 4
    chunk = struct.pack(">I", len(content)) + kind + content
    chunk += struct.pack(">I", zlib.crc32(kind + content))
    return whole[:at] + chunk * times + whole[at:]


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header alone says this size."""
    whole = bytearray(encoded(flat(8), "PNG"))
    struct.pack_into(">II", whole, 16, width, height)
    struct.pack_into(">I", whole, 29, zlib.crc32(bytes(whole[12:29])))
    return bytes(whole)


def animated(kind: str, frames: int, side: int) -> bytes:
    """A first picture and many others."""
    pictures = [Image.new("RGB", (side, side), (n % 256, n // 256, 9)) for n in range(frames)]
    file = io.BytesIO()
    pictures[0].save(file, kind, save_all=True, append_images=pictures[1:])
    return file.getvalue()


def with_text(size: int) -> bytes:
    """A PNG with a compressed text of this many bytes."""
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * size, zip=True)
    return encoded(flat(8), "PNG", pnginfo=info)


def with_exif() -> bytes:
    """A JPEG with as much EXIF as fits."""
    exif = Image.Exif()
    exif[0x010E] = "x" * 65_000
    return encoded(flat(8), "JPEG", exif=exif)


IMAGES: dict[str, Made] = {
    "JPEG, 50 megapixels": lambda: encoded(smooth(JPEG_SIDE), "JPEG"),
    "JPEG, 50 megapixels, progressive": lambda: encoded(
        smooth(JPEG_SIDE), "JPEG", progressive=True
    ),
    "JPEG, 50 megapixels, CMYK": lambda: encoded(flat(JPEG_SIDE, mode="CMYK"), "JPEG"),
    "JPEG, 50 megapixels, grey": lambda: encoded(flat(JPEG_SIDE, mode="L"), "JPEG"),
    "JPEG, 65,000 × 760": lambda: encoded(flat(65_000, 760), "JPEG"),
    "JPEG, 81 megapixels": lambda: encoded(flat(9_000), "JPEG"),
    "JPEG, 60,000 scans": lambda: jpeg_of_scans(60_000),
    "JPEG, 200 scans": lambda: jpeg_of_scans(200),
    "JPEG with 64 KB of EXIF": with_exif,
    "JPEG, cut": lambda: encoded(smooth(JPEG_SIDE), "JPEG")[:-100_000],
    "PNG, 25 megapixels": lambda: encoded(smooth(PNG_SIDE), "PNG", compress_level=1),
    "PNG, 25 megapixels, flat": lambda: encoded(flat(PNG_SIDE), "PNG"),
    "PNG, 25 megapixels, 1 bit": lambda: encoded(flat(PNG_SIDE, mode="1"), "PNG"),
    "PNG, 25 megapixels, palette": lambda: encoded(flat(PNG_SIDE, mode="P"), "PNG"),
    "PNG, 25 megapixels, palette with alphas": lambda: encoded(
        flat(PNG_SIDE, mode="P"), "PNG", transparency=bytes(range(256))
    ),
    "PNG, 25 megapixels, alpha": lambda: encoded(flat(PNG_SIDE, mode="RGBA"), "PNG"),
    "PNG, 25 megapixels, grey and alpha": lambda: encoded(flat(PNG_SIDE, mode="LA"), "PNG"),
    "PNG, 25 megapixels, one transparent": lambda: encoded(
        flat(PNG_SIDE), "PNG", transparency=(0, 0, 0)
    ),
    "PNG, 25 megapixels, 16 bits": lambda: encoded(
        Image.fromarray(np.full((PNG_SIDE, PNG_SIDE), 9_999, np.uint16)), "PNG"
    ),
    "PNG, 16,000 × 1,560": lambda: encoded(flat(16_000, 1_560), "PNG"),
    "PNG, 1 × 10,000": lambda: encoded(flat(1, 10_000), "PNG"),
    "PNG, 49 megapixels": lambda: encoded(flat(7_000), "PNG"),
    "PNG, 2,147,483,647 wide": lambda: png_of(2**31 - 1, 1),
    "PNG, 100,000 × 100,000": lambda: png_of(100_000, 100_000),
    "PNG, 5,000 × 5,000, without them": lambda: png_of(5_000, 5_000),
    "PNG with a text of 60 MB": lambda: with_text(60_000_000),
    "PNG with 100,000 texts": lambda: png_with(b"tEXt", b"a\0b", 100_000),
    "PNG with 100,000 compressed texts": lambda: png_with(
        b"zTXt", b"a\0\0" + zlib.compress(bytes(10_000)), 100_000
    ),
    "PNG with a profile of 60 MB": lambda: png_with(
        b"iCCP", b"p\0\0" + zlib.compress(bytes(60_000_000))
    ),
    "PNG, animated": lambda: animated("PNG", 300, 200),
    "WebP, 20 megapixels, lossless": lambda: encoded(flat(WEBP_SIDE), "WEBP", lossless=True),
    "WebP, 20 megapixels": lambda: encoded(smooth(WEBP_SIDE), "WEBP", method=0),
    "WebP, 20 megapixels, alpha": lambda: encoded(
        flat(WEBP_SIDE, mode="RGBA"), "WEBP", lossless=True
    ),
    "WebP, 49 megapixels, lossless": lambda: encoded(flat(7_000), "WEBP", lossless=True),
    "WebP, animated": lambda: animated("WEBP", 300, 200),
    "GIF, animated": lambda: animated("GIF", 300, 200),
    "BMP": lambda: encoded(flat(2_000), "BMP"),
    "TIFF": lambda: encoded(flat(2_000), "TIFF"),
    "PDF": lambda: b"%PDF-1.7\n" + bytes(1_000_000),
    "19 MB of zeros": lambda: bytes(19_000_000),
}
"""Files of images, and of what is none, by name."""

SCRIPTS = {
    "Latin": "export the model and serve it ",
    "one word": "a",
    "Chinese": "模型出口",
    "Arabic": "نموذج ",
    "emoji": "👩‍👩‍👧‍👦",
    "marks": "e\u0301\u0302\u0303\u0304",
    "spaces": " ",
    "NUL": "\0",
    "punctuation": ".,!",
    "unknown": "\U000f0000",
}


def text(script: str, characters: int) -> str:
    """So many characters of a script."""
    part = SCRIPTS[script]
    return (part * (characters // len(part) + 1))[:characters]


def nested(depth: int) -> str:
    """Lists in lists."""
    return "[" * depth + "]" * depth


VALUES: dict[str, Callable[[], str]] = {
    "1,000 deep": lambda: nested(1_000),
    "100,000 deep": lambda: nested(100_000),
    "a string of 4 MB": lambda: '"' + "x" * 4_000_000 + '"',
    "escapes, 4 MB": lambda: '"' + r"\u00e9" * 666_000 + '"',
    "a number of 4,000,000 digits": lambda: "9" * 4_000_000,
    "a number of 1e400": lambda: "1e400",
    "1,000,000 numbers": lambda: "[" + "1," * 999_999 + "1]",
    "1,000,000 empty lists": lambda: "[" + "[]," * 999_999 + "[]]",
    "300,000 objects": lambda: "[" + "{}," * 299_999 + "{}]",
    "300,000 keys": lambda: "{" + ",".join(f'"{n}":1' for n in range(300_000)) + "}",
    "300,000 strings, one long": lambda: '["' + "x" * 1_000_000 + '",' + '"",' * 299_999 + '""]',
    "negative": lambda: "-1",
    "2⁶³": lambda: str(2**63),
    "null": lambda: "null",
    "true": lambda: "true",
}
"""Values of JSON, by what is wrong with them."""
FIELDS = ("id", "parameters", "name", "datatype", "shape", "data", "outputs", "inputs")


def v2_with(field: str, value: str) -> bytes:
    """A request of the Open Inference Protocol with this value in a field."""
    fields = {"name": '"x"', "datatype": '"FP32"', "shape": "[1, 3]", "data": "[1, 2, 3]"}
    outer = {"id": '"1"'}
    if field in fields:
        fields[field] = value
    tensor = "{" + ", ".join(f'"{name}": {each}' for name, each in fields.items()) + "}"
    outer["inputs"] = f"[{tensor}]"
    if field not in fields:
        outer[field] = value
    return ("{" + ", ".join(f'"{name}": {each}' for name, each in outer.items()) + "}").encode()


def in_base64(data: bytes) -> str:
    """As JSON's form of images has it."""
    return base64.b64encode(data).decode()


def bytes_tensor(elements: list[bytes]) -> bytes:
    """Elements of a BYTES tensor as the binary extension has them."""
    return b"".join(len(each).to_bytes(4, "little") + each for each in elements)


def deflated(size: int) -> Iterator[tuple[str, bytes]]:
    """A body of so many spaces, compressed each way that is accepted."""
    import gzip

    import zstandard

    yield "gzip", gzip.compress(b" " * size)
    yield "zstd", zstandard.ZstdCompressor().compress(b" " * size)
