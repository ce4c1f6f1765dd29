"""Compressed bodies."""

import gzip

import pytest
import zstandard

from shipway.payloads.errors import BadRequest, UnsupportedContent
from shipway.serving.encodings import decoded

BODY = bytes(range(256)) * 100


def unsized(body: bytes) -> bytes:
    """As a client writes it that does not know the size before."""
    stream = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return stream.compress(body) + stream.flush()


COMPRESS = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress, "ZSTD ": unsized}


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_body_comes_back_up_to_the_limit(encoding):
    sent = COMPRESS[encoding](BODY)
    assert decoded(sent, encoding, len(BODY)) == BODY
    assert decoded(sent, encoding, len(BODY) - 1) is None


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_bomb_costs_no_more_than_the_limit(encoding):
    assert decoded(COMPRESS[encoding](bytes(10**8)), encoding, 1000) is None


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("spoil", [lambda sent: sent[:-9], lambda sent: b"", lambda sent: BODY])
def test_a_broken_body_is_refused(encoding, spoil):
    with pytest.raises(BadRequest, match=f"not valid {encoding}"):
        decoded(spoil(COMPRESS[encoding](BODY)), encoding, 10**6)


@pytest.mark.parametrize("spoil", [lambda sent: sent[:-9], lambda sent: sent + b"tail"])
def test_a_zstd_frame_without_its_size_has_to_be_complete(spoil):
    with pytest.raises(BadRequest, match="not valid zstd"):
        decoded(spoil(unsized(BODY)), "zstd", 10**6)


def test_several_zstd_frames_are_one_body():
    sent = unsized(b"hello ") + zstandard.ZstdCompressor().compress(b"world")
    assert decoded(sent, "zstd", 100) == b"hello world"
    assert decoded(sent, "zstd", 10) is None


def test_an_uncompressed_body_stays_as_it_is():
    assert decoded(BODY, "", 1) is BODY and decoded(BODY, "identity", 1) is BODY


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "x" * 100])
def test_other_encodings_are_refused(encoding):
    with pytest.raises(UnsupportedContent, match="gzip or zstd"):
        decoded(BODY, encoding, 10)
