"""Request bodies that were compressed for the way (RFC 9110, 8.4)."""

import zlib

import zstandard

from shipway.payloads.errors import BadRequest, UnsupportedContent

ACCEPTED = ("gzip", "zstd")
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
    stream = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(body)
    found = stream.read(limit + 1)
    if len(found) > limit:
        return None
    # A frame that is cut short gives what it has and no error.
    size = zstandard.frame_content_size(body)
    if size >= 0 and size != len(found):
        raise EOFError("it ends too early")
    return found
