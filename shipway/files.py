"""Files that come with the package, and files that are written whole or not at all."""

import os
import secrets
import stat
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_SHIPPED = _PACKAGE / "_data"


def shipped(name: str) -> Path:
    """The path of a file or folder that comes with Shipway: `handlers`, `config.properties`.

    It is inside the package in an installed wheel, and at the top of a checkout.
    """
    in_wheel = _SHIPPED / name
    return in_wheel if in_wheel.exists() else _PACKAGE.parent / name


def atomic_write(
    path: Path, content: str | bytes, *, durable: bool = False, private: bool = False
) -> None:
    """Replaces a file: a reader sees the old content or the new one, never a part.

    With `durable` the content is on the disk when this returns. With `private` nobody but this
    user may read it. Raises OSError if the file cannot
    be written; then the old file is unchanged, and nothing else is left.
    """
    # Its own name for every call: processes and threads may write the same file at once.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    data = content.encode() if isinstance(content, str) else content
    try:
        with open(partial, "wb", opener=_private if private else None) as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def keep_others_out(folder: Path) -> str | None:
    """Takes from all other users of the machine the permission to write to a folder, whose files
    the server runs or trusts. Returns what its user should know; None if others could not write.

    A folder with the sticky bit, as /tmp has it, is meant for all, and is left as it is.
    """
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
    except FileNotFoundError:
        return None
    if not mode & stat.S_IWOTH:
        return None
    danger = "Who can write there can run code as the server"
    if mode & stat.S_ISVTX:
        return f"All users can write to {folder}. {danger}: use a folder of your own."
    try:
        folder.chmod(mode & ~stat.S_IWOTH)
    except PermissionError:
        return (
            f"All users can write to {folder}, which belongs to another user. {danger}: use a "
            "folder of your own, unless this machine has no other users."
        )
    return (
        f"All users could write to {folder}; that permission was removed. {danger}: check that the "
        "files in it are yours."
    )
