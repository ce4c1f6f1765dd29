"""Zip files made by hand, so that they can say what no honest writer would."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_LOCAL = "<4s5H3I2H"
_CENTRAL = "<4s6H3I5H2I"
_END = "<4s4H2IH"


@dataclass
class Member:
    """One file of a zip. `local` and `central` overrule what its two headers say."""

    name: bytes
    data: bytes = b""
    method: int = zlib.DEFLATED
    flags: int = 0
    mode: int = 0o100644
    local: dict[str, Any] = field(default_factory=dict)
    central: dict[str, Any] = field(default_factory=dict)
    after: bytes = b""
    """What lies behind it, before the next."""

    def packed(self) -> bytes:
        if self.method != zlib.DEFLATED:
            return self.data
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        return deflate.compress(self.data) + deflate.flush()

    def says(self, packed: bytes, changes: dict[str, Any]) -> dict[str, Any]:
        truth = {"name": self.name, "method": self.method, "flags": self.flags, "extra": b""}
        truth |= {"crc": zlib.crc32(self.data), "packed": len(packed), "size": len(self.data)}
        return truth | changes


def zipped(
    members: Sequence[Member], *, before: bytes = b"", comment: bytes = b"", after: bytes = b""
) -> bytes:
    """The zip of `members`, with bytes before it, its comment, and bytes after it."""
    body, directory = bytearray(before), bytearray()
    for member in members:
        packed = member.packed()
        offset = len(body)
        said = member.says(packed, member.local)
        body += struct.pack(
            _LOCAL, b"PK\3\4", 20, said["flags"], said["method"], 0, 33, said["crc"],
            said["packed"], said["size"], len(said["name"]), len(said["extra"]),
        )  # fmt: skip
        body += said["name"] + said["extra"] + packed + member.after
        said = member.says(packed, {"offset": offset} | member.central)
        directory += struct.pack(
            _CENTRAL, b"PK\1\2", 0x314, 20, said["flags"], said["method"], 0, 33, said["crc"],
            said["packed"], said["size"], len(said["name"]), len(said["extra"]), 0, 0, 0,
            member.mode << 16, said["offset"],
        )  # fmt: skip
        directory += said["name"] + said["extra"]
    count = len(members)
    end = struct.pack(_END, b"PK\5\6", 0, 0, count, count, len(directory), len(body), len(comment))
    return bytes(body + directory + end + comment + after)


def unpacked_by_headers(data: bytes) -> dict[str, bytes]:
    """What a reader finds that never looks at the directory, as Java's ZipInputStream does not."""
    found: dict[str, bytes] = {}
    at = 0
    while data[at : at + 4] == b"PK\3\4":
        fields = struct.unpack(_LOCAL, data[at : at + 30])
        method, packed, size, names, extras = fields[3], *fields[7:11]
        name = data[at + 30 : at + 30 + names].decode()
        at += 30 + names + extras
        if method == zlib.DEFLATED:
            deflate = zlib.decompressobj(-15)
            found[name] = deflate.decompress(data[at:])
            at = len(data) - len(deflate.unused_data)
        else:
            found[name] = data[at : at + size]
            at += packed
    return found
