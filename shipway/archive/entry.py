"""What TorchServe imports from a `.mar`. It checks every file of the archive before it runs any."""

import sys
from hashlib import file_digest
from pathlib import Path
from typing import Any

_ARCHIVE = Path(__file__).resolve().parent
# No digest covers bytecode, so none may be in the archive. This process writes none; only this
# file's own was written by Python before its first line ran.
sys.dont_write_bytecode = True


def _check(folder: Path) -> None:
    """Raises RuntimeError unless `folder` contains exactly what was packaged.

    It repeats shipway.artifact.digests in a few lines, since that module is not checked yet.
    """
    sums = folder / "SHA256SUMS"
    lines = sums.read_text().splitlines() if sums.is_file() else []
    sealed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    own = set((folder / "__pycache__").glob("entry.*.pyc"))
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise RuntimeError(
                f"{path} is a link, a pipe or a device. "
                "An archive may contain only regular files. Package it again."
            )
        if path.is_file() and name not in sealed and path != sums and path not in own:
            raise RuntimeError(
                f"{path} is not part of the archive as it was packaged. "
                "Copy or package the archive again."
            )
    for name, digest in sealed.items():
        path = folder / name
        if not path.is_file():
            raise RuntimeError(
                f"{path} is missing from the archive. Copy or package the archive again."
            )
        with path.open("rb") as file:
            found = file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise RuntimeError(
                f"{path} has changed since the archive was packaged. "
                "Copy or package the archive again."
            )


_check(_ARCHIVE)
# Before whatever is installed beside the server: an archive serves with its own code.
sys.path.insert(0, str(_ARCHIVE))

import handler  # type: ignore[import-not-found]  # noqa: E402

_handlers = [
    value
    for value in vars(handler).values()
    if isinstance(value, type) and value.__module__ == handler.__name__ and hasattr(value, "handle")
]
if len(_handlers) != 1:
    raise RuntimeError(
        f"{handler.__file__} defines {len(_handlers)} handler classes; TorchServe needs exactly "
        "one. Correct handlers/TASK.py and package the artifact again."
    )


_Handler: Any = _handlers[0]


class Model(_Handler):
    """The class that TorchServe finds in this file."""
