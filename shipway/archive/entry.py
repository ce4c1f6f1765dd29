"""What TorchServe imports from a `.mar`: the archive's own code, checked before it is run."""

import sys
from hashlib import file_digest
from pathlib import Path

_ARCHIVE = Path(__file__).resolve().parent
# Bytecode is code that no digest vouches for. This process leaves none behind, so that none may be
# there; but Python has made this file's own before its first line was run.
sys.dont_write_bytecode = True


def _check(folder: Path) -> None:
    """Raises RuntimeError unless `folder` is what was packaged.

    As shipway.artifact.digests does it, in a few lines: that module is yet to be checked.
    """
    sums = folder / "SHA256SUMS"
    lines = sums.read_text().splitlines() if sums.is_file() else []
    sealed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    own = set((folder / "__pycache__").glob("entry.*.pyc"))
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise RuntimeError(f"{path} is a link, a pipe or a device; there may be only files")
        if path.is_file() and name not in sealed and path != sums and path not in own:
            raise RuntimeError(f"{path} was not there when the archive was packaged")
    for name, digest in sealed.items():
        path = folder / name
        if not path.is_file():
            raise RuntimeError(f"{path} is missing; it was there when the archive was packaged")
        with path.open("rb") as file:
            found = file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise RuntimeError(f"{path} is not the file that was sealed; copy or package it again")


_check(_ARCHIVE)
# First, whatever else is installed beside the server: an archive serves with its own code.
sys.path.insert(0, str(_ARCHIVE))

import handler  # type: ignore[import-not-found]  # noqa: E402

[_Handler] = [
    each
    for each in vars(handler).values()
    if hasattr(each, "handle") and each.__module__ == handler.__name__
]


class Model(_Handler):  # type: ignore[misc, valid-type]
    """The one class that TorchServe finds in this file."""
