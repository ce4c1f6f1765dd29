"""Files: those that come with the package, and those that are written whole or not at all."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_SHIPPED = _PACKAGE / "_data"


def shipped(name: str) -> Path:
    """A file or folder that comes with Shipway: `handlers`, `config.properties`.

    A wheel has them in the package, a checkout in its own top folder.
    """
    in_wheel = _SHIPPED / name
    return in_wheel if in_wheel.exists() else _PACKAGE.parent / name


def atomic_write(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Writes a file whole: whoever reads it sees the old content or the new one.

    With `durable` it is on the disk when this returns. Raises OSError, and leaves nothing behind.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    data = content.encode() if isinstance(content, str) else content
    try:
        with partial.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
