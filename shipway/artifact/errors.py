"""What can be wrong with an artifact on disk."""

from pathlib import Path

from shipway.errors import ShipwayError


class ArtifactError(ShipwayError):
    """The base class of the errors below."""


class NotAnArtifact(ArtifactError):
    """A path that is not a sealed folder."""

    def __init__(self, path: Path, lacks: str) -> None:
        super().__init__(
            f"{path} is not an artifact: there is no {lacks}. "
            "Give the folder that `shipway export` wrote."
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
        super().__init__(f"{path} is not valid: {problems}")


class IncompleteArtifact(ArtifactError):
    """A sealed file is missing."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(
            f"{path / name} is missing, but SHA256SUMS or the manifest lists it. "
            "Copy the artifact again, or export the model again."
        )


class DigestMismatch(ArtifactError):
    """A file was changed after it was sealed."""

    def __init__(self, path: Path, found: str, expected: str) -> None:
        super().__init__(
            f"{path} has changed since the artifact was sealed: its SHA-256 is {found[:12]}…, "
            f"expected {expected[:12]}…. Copy the artifact again, or export the model again."
        )


class UnexpectedFile(ArtifactError):
    """A file was added after the folder was sealed."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} was added after the artifact was sealed. Remove it, or export the model again."
        )


class NotAFile(ArtifactError):
    """A link, pipe or device, which cannot be sealed."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is a link, a pipe or a device. An artifact may contain only regular files and "
            "folders. Replace it with a regular file."
        )


class Unreadable(ArtifactError):
    """The operating system does not allow reading the file."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path} cannot be read: {error.strerror}. Check its permissions.")


class AlreadySealed(ArtifactError):
    """The destination of a new artifact already exists."""

    def __init__(self, path: Path, *, otherwise: str = "remove the old artifact first") -> None:
        super().__init__(
            f"{path} already exists, and artifacts are immutable. Choose another version with "
            f"--version, or {otherwise}."
        )
