"""Files that one process writes and others read: written again when somebody else changed them."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shipway.files import atomic_write


@dataclass(frozen=True, slots=True)
class _Mark:
    """What tells a file from another that took its place, without reading it."""

    inode: int
    changed_ns: int
    bytes: int


class KeptFiles:
    """Files in one folder, each replaced as a whole and readable by this user alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: dict[str, tuple[str, _Mark | None]] = {}

    def write(self, name: str, text: str) -> Path:
        """Writes a file unless it has this content already, so that a full disk stops no process
        whose files are good. Raises OSError."""
        path = self._folder / name
        if not _holds(path, text):
            atomic_write(path, text, private=True)
        mark = _mark_of(path)
        # Looked at after the mark: somebody may change the file in the moment that it is written.
        self._written[name] = text, mark if _holds(path, text) else None
        return path

    def remove(self, name: str) -> None:
        """Deletes a file."""
        self._written.pop(name, None)
        (self._folder / name).unlink(missing_ok=True)

    def restore(self) -> list[str]:
        """Writes again what others have changed or deleted; returns the names. Raises OSError."""
        damaged = [
            name
            for name, (_, mark) in self._written.items()
            if mark is None or _mark_of(self._folder / name) != mark
        ]
        return [name for name in damaged if self._restore(name)]

    def _restore(self, name: str) -> bool:
        text, _ = self._written[name]
        was_good = _holds(self._folder / name, text)
        self.write(name, text)
        return not was_good


def _mark_of(path: Path) -> _Mark | None:
    with suppress(OSError):
        found = path.stat()
        return _Mark(found.st_ino, found.st_mtime_ns, found.st_size)
    return None


def _holds(path: Path, text: str) -> bool:
    with suppress(OSError):
        return path.read_bytes() == text.encode()
    return False
