"""SHA-256 over a folder, in the format of `sha256sum`, so that `sha256sum -c SHA256SUMS` agrees."""

import hashlib
from pathlib import Path

from shipway.artifact.errors import (
    DigestMismatch,
    IncompleteArtifact,
    InvalidManifest,
    NotAnArtifact,
    UnexpectedFile,
)

SUMS = "SHA256SUMS"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_in(folder: Path) -> list[str]:
    """Every file below `folder`, as sorted relative POSIX paths, bytecode left out."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )


def format_sums(digests: dict[str, str]) -> str:
    """The text of a SHA256SUMS file: one line per file, sorted by name."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def parse_sums(text: str, path: Path) -> dict[str, str]:
    """The digests by file name; raises InvalidManifest for a line that is not one."""
    digests: dict[str, str] = {}
    for line in text.splitlines():
        digest, separator, name = line.partition("  ")
        inside = name and not name.startswith("/") and ".." not in name.split("/")
        if not separator or len(digest) != 64 or not inside or name in digests:
            raise InvalidManifest(path, f"{line[:100]!r} is not `<64 hex digits>  <file inside>`")
        digests[name] = digest
    return digests


def write_sums(folder: Path) -> None:
    """Seals `folder`: writes the digest of every file in it beside them."""
    digests = {name: sha256_of(folder / name) for name in files_in(folder) if name != SUMS}
    (folder / SUMS).write_text(format_sums(digests))


def check_sums(folder: Path, ignore: frozenset[str] = frozenset()) -> None:
    """Raises unless `folder` holds exactly the files that were sealed, byte for byte.

    `ignore` names files that may be there without having been sealed.
    """
    sums = folder / SUMS
    if not sums.is_file():
        raise NotAnArtifact(folder, SUMS)
    try:
        text = sums.read_text()
    except UnicodeDecodeError as error:
        raise InvalidManifest(sums, str(error)) from error
    sealed = parse_sums(text, sums)
    for name, expected in sealed.items():
        path = folder / name
        if not path.is_file():
            raise IncompleteArtifact(folder, name)
        if (found := sha256_of(path)) != expected:
            raise DigestMismatch(path, found, expected)
    for name in files_in(folder):
        if name not in sealed and name != SUMS and name not in ignore:
            raise UnexpectedFile(folder / name)
