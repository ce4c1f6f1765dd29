"""Whether an image file holds a small picture, from its first bytes, in microseconds.

Pillow says so too, and takes twenty: as long as the rest of a small request.
"""

import struct

SMALL_PIXELS = 2**16
"""A picture of so many is decoded in about a millisecond, whatever it shows."""
_PNG_SIZE, _JPEG_SIZE, _VP8_SIZE = struct.Struct(">II"), struct.Struct(">HH"), struct.Struct("<HH")
_VP8L_BITS = struct.Struct("<I")
"""Where width and height are: PNG 1.2, 11.2.2; ITU T.81, B.2.2; RFC 6386, 9.1; RFC 9649, 3.4."""
_SEQUENTIAL, _OTHER_FRAMES = (0xC0, 0xC1), (0xC2, 0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xD0))
"""The markers that begin a frame (ITU T.81, table B.1). 0xCC, arithmetic coding, is among them."""
_MOST_BESIDE = 4096
"""Bytes of a file beside its pixels, such as texts, which may be compressed."""
UNKNOWN = (2**16, 2**16)
_MOST_SEGMENTS = 32
"""Before the frame of a JPEG. Cameras write about ten."""


def is_small(data: bytes | bytearray) -> bool:
    """Whether a file says that it has few pixels, and is no longer than they need. Not so of one of
    which that takes longer to find out, and of a progressive JPEG, which may have thousands of
    scans."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        width, height = _PNG_SIZE.unpack_from(data.ljust(24, b"\xff"), 16)
    elif data.startswith(b"RIFF") and data[12:16] == b"VP8L":
        (bits,) = _VP8L_BITS.unpack_from(data.ljust(25, b"\xff"), 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif data.startswith(b"RIFF") and data[12:16] == b"VP8 ":
        width, height = _VP8_SIZE.unpack_from(data.ljust(30, b"\xff"), 26)
        width, height = width & 0x3FFF, height & 0x3FFF
    else:
        width, height = _jpeg_size(data)
    pixels: int = width * height
    return pixels <= SMALL_PIXELS and len(data) <= 4 * pixels + _MOST_BESIDE


def _jpeg_size(data: bytes | bytearray) -> tuple[int, int]:
    """Width and height; UNKNOWN for what is none, and where there is much before its frame."""
    if not data.startswith(b"\xff\xd8"):
        return UNKNOWN
    at = 2
    for _ in range(_MOST_SEGMENTS):
        if data[at : at + 1] != b"\xff" or at + 9 > len(data) or data[at + 1] in _OTHER_FRAMES:
            break
        if data[at + 1] in _SEQUENTIAL:
            height, width = _JPEG_SIZE.unpack_from(data, at + 5)
            return width, height
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return UNKNOWN
