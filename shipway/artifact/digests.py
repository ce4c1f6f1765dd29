"""SHA-256 over a folder, in the format of `sha256sum`, so that `sha256sum -c SHA256SUMS` agrees."""

import hashlib
import os
import re
import stat
from pathlib import Path

from shipway.artifact.errors import (
    DigestMismatch,
    IncompleteArtifact,
    InvalidManifest,
    NotAFile,
    NotAnArtifact,
    UnexpectedFile,
    Unreadable,
)

SUMS = "SHA256SUMS"
MAX_RECORD_BYTES = 64 * 2**20
"""Of a file that is read whole, as this one and the manifest are; a thousand times a usual one."""
_LINE = re.compile(r"([0-9a-f]{64})  ([!-~]+)")
"""Names are of printable ASCII: no two that look alike, nothing that a terminal would obey."""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal; raises Unreadable."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Unreadable(path, error) from error


def read_small(path: Path) -> bytes:
    """The bytes of a file that is meant to be read whole; raises Unreadable, InvalidManifest."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_RECORD_BYTES + 1)
    except OSError as error:
        raise Unreadable(path, error) from error
    if len(content) > MAX_RECORD_BYTES:
        raise InvalidManifest(path, f"it is larger than the limit of {MAX_RECORD_BYTES >> 20} MiB")
    return content


def files_in(folder: Path) -> list[str]:
    """Every file below `folder`, as sorted relative POSIX paths.

    Raises NotAFile for a link, a pipe, a device or a socket: no digest can vouch for them, since
    what is behind them may change, or never end.
    """
    found = []
    try:
        for parent, folders, files in os.walk(folder, onerror=_raise):
            for path in (Path(parent, name) for name in (*folders, *files)):
                mode = path.lstat().st_mode
                if stat.S_ISREG(mode):
                    found.append(path.relative_to(folder).as_posix())
                elif not stat.S_ISDIR(mode):
                    raise NotAFile(path)
    except OSError as error:
        raise Unreadable(folder, error) from error
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def format_sums(digests: dict[str, str]) -> str:
    """The text of a SHA256SUMS file: one line per file, sorted by name."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def parse_sums(content: bytes, path: Path) -> dict[str, str]:
    """The digests by file name; raises InvalidManifest for a line that is not one."""
    digests: dict[str, str] = {}
    seen: set[str] = set()
    for line in content.decode("ascii", "replace").splitlines():
        found = _LINE.fullmatch(line)
        name = found[2] if found else ""
        # Two names that differ only in case are one file on some file systems.
        if not found or not _inside(name) or name.lower() in seen:
            raise InvalidManifest(
                path,
                f"the line {line[:100]!r} is not valid; "
                "expected `<SHA-256 in hex>  <relative path>`",
            )
        seen.add(name.lower())
        digests[name] = found[1]
    return digests


def _inside(name: str) -> bool:
    return "\\" not in name and not {"", ".", ".."} & set(name.split("/"))


def write_sums(folder: Path) -> None:
    """Seals `folder`: writes the digest of every file in it beside them."""
    digests = {name: sha256_of(folder / name) for name in files_in(folder) if name != SUMS}
    text = format_sums(digests)
    parse_sums(text.encode(), folder / SUMS)  # a name that could not be read back is refused now
    (folder / SUMS).write_text(text)


def check_sums(folder: Path) -> dict[str, str]:
    """The digests by file name of a folder that holds exactly what was sealed, byte for byte.

    Raises ArtifactError otherwise. Nothing is hashed before all that is there is known by name.
    """
    present = set(files_in(folder))
    if SUMS not in present:
        raise NotAnArtifact(folder, SUMS)
    sealed = parse_sums(read_small(folder / SUMS), folder / SUMS)
    if missing := sorted(sealed.keys() - present):
        raise IncompleteArtifact(folder, missing[0])
    if new := sorted(present - sealed.keys() - {SUMS}):
        raise UnexpectedFile(folder / new[0])
    for name, expected in sealed.items():
        if (found := sha256_of(folder / name)) != expected:
            raise DigestMismatch(folder / name, found, expected)
    return sealed
