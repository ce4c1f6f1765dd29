"""Request bodies that were compressed for the way (RFC 9110, 8.4)."""

import zlib

import zstandard

from shipway.payloads.errors import BadRequest, UnsupportedContent

ACCEPTED = ("gzip", "zstd")
_WINDOW_BYTES = 2**27
_STEP_BYTES = 1024
"""Compressed bytes that are decompressed at once: the limit is checked in between, and so few
become at most some tens of megabytes."""
_GZIP = 16 + zlib.MAX_WBITS
"""zlib's name for a gzip header and trailer."""


def decoded(body: bytes, encoding: str, limit: int) -> bytes | None:
    """The body as it was before it was compressed; None if that has more than `limit` bytes.

    `encoding` is the header's value. Raises UnsupportedContent for an encoding that is not known,
    BadRequest for a body that is broken.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in ACCEPTED:
        raise UnsupportedContent(
            f"Unsupported content encoding {encoding[:40]!r}. Send the body uncompressed, or use "
            f"{' or '.join(ACCEPTED)}."
        )
    try:
        return _gzip(body, limit) if name == "gzip" else _zstd(body, limit)
    except (zlib.error, zstandard.ZstdError, EOFError) as error:
        raise BadRequest(
            f"The body is not valid {name}: {error}. Send the complete compressed body."
        ) from error


def _gzip(body: bytes, limit: int) -> bytes | None:
    stream = zlib.decompressobj(_GZIP)
    found = stream.decompress(body, limit + 1)
    if len(found) > limit:
        return None
    if not stream.eof or stream.unused_data:
        raise EOFError("it ends too early, or goes on after its end")
    return found


def _zstd(body: bytes, limit: int) -> bytes | None:
    """All frames of a body, one after the other, each of which has to be complete."""
    parts: list[bytes] = []
    size = 0
    left = body
    while left or not parts:
        frame = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).decompressobj()
        for place in range(0, len(left) or 1, _STEP_BYTES):
            part = frame.decompress(left[place : place + _STEP_BYTES])
            parts.append(part)
            size += len(part)
            if size > limit:
                return None
            if frame.eof:
                left = frame.unused_data + left[place + _STEP_BYTES :]
                break
        if not frame.eof:
            raise EOFError("it ends too early")
    return b"".join(parts)
