"""What can be wrong with an artifact on disk."""

from pathlib import Path

from shipway.errors import ShipwayError


class ArtifactError(ShipwayError):
    """The base of everything below."""


class NotAnArtifact(ArtifactError):
    def __init__(self, path: Path, lacks: str) -> None:
        super().__init__(
            f"{path} is not an artifact: there is no {lacks}. "
            "An artifact is the folder that `shipway export` writes."
        )


class UnsupportedFormat(ArtifactError):
    def __init__(self, path: Path, found: object, readable: int) -> None:
        super().__init__(
            f"{path} has format {found}; this build reads {readable}. "
            "Re-export it with `shipway export`."
        )


class InvalidManifest(ArtifactError):
    def __init__(self, path: Path, problems: str) -> None:
        super().__init__(f"{path} does not read as what it should be: {problems}")


class IncompleteArtifact(ArtifactError):
    def __init__(self, path: Path, name: str) -> None:
        super().__init__(
            f"{path / name} is missing, though the SHA256SUMS or the manifest names it. "
            "The folder was cut short; copy or export it again."
        )


class DigestMismatch(ArtifactError):
    def __init__(self, path: Path, found: str, expected: str) -> None:
        super().__init__(
            f"{path} is not the file that was sealed: its SHA-256 is {found[:12]}…, "
            f"expected {expected[:12]}…. Copy or export it again."
        )


class UnexpectedFile(ArtifactError):
    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} was not there when the folder was sealed. Remove it, or export again."
        )


class NotAFile(ArtifactError):
    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is a link, a pipe or a device, and only files and folders can be sealed. "
            "Put the file itself there."
        )


class Unreadable(ArtifactError):
    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path} cannot be read: {error.strerror}.")


class AlreadySealed(ArtifactError):
    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} exists, and an artifact never changes. "
            "Give the new one another version (--version 2.0), or remove the old one first."
        )
