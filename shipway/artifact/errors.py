"""What can be wrong with an artifact on disk."""

from pathlib import Path

from shipway.errors import ShipwayError


class ArtifactError(ShipwayError):
    """The base of everything below."""


class NotAnArtifact(ArtifactError):
    """A path that is no sealed folder."""

    def __init__(self, path: Path, lacks: str) -> None:
        super().__init__(
            f"{path} is not an artifact: there is no {lacks}. "
            "An artifact is the folder that `shipway export` writes."
        )


class UnsupportedFormat(ArtifactError):
    """An artifact of another format number."""

    def __init__(self, path: Path, found: object, readable: int) -> None:
        super().__init__(
            f"{path} has format {found}; this build reads {readable}. "
            "Re-export it with `shipway export`."
        )


class InvalidManifest(ArtifactError):
    """A JSON file or list of digests with wrong or missing fields."""

    def __init__(self, path: Path, problems: str) -> None:
        super().__init__(f"{path} does not read as what it should be: {problems}")


class IncompleteArtifact(ArtifactError):
    """A sealed file is missing."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(
            f"{path / name} is missing, though the SHA256SUMS or the manifest names it. "
            "The folder was cut short; copy or export it again."
        )


class DigestMismatch(ArtifactError):
    """A file was changed after it was sealed."""

    def __init__(self, path: Path, found: str, expected: str) -> None:
        super().__init__(
            f"{path} is not the file that was sealed: its SHA-256 is {found[:12]}…, "
            f"expected {expected[:12]}…. Copy or export it again."
        )


class UnexpectedFile(ArtifactError):
    """A file was added after the folder was sealed."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} was not there when the folder was sealed. Remove it, or export again."
        )


class NotAFile(ArtifactError):
    """A link, pipe or device, which cannot be sealed."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is a link, a pipe or a device, and only files and folders can be sealed. "
            "Put the file itself there."
        )


class Unreadable(ArtifactError):
    """A file that the operating system does not let us read."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path} cannot be read: {error.strerror}.")


class AlreadySealed(ArtifactError):
    """An artifact exists already where one was to be published."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} exists, and an artifact never changes. "
            "Give the new one another version (--version 2.0), or remove the old one first."
        )
