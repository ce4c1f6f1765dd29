"""The model store: the one folder from which TorchServe may load archives."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shipway.archive.errors import StoreError
from shipway.archive.signatures import signature_of
from shipway.artifact.digests import sha256_of


@contextmanager
def stored(mar: Path, model_store: Path, *, digest: str) -> Iterator[str]:
    """The name under which TorchServe finds `mar` in the store. Copies it there if it is missing.

    A signature beside it is copied too. The archive in the store then has the SHA-256 `digest`,
    even if `mar` changed after it was checked. If the block raises, the copies are removed.
    """
    check_place(mar, model_store, digest=digest)
    target = model_store / mar.name
    copied = []
    try:
        for source, copy in ((mar, target), (signature_of(mar), signature_of(target))):
            if source.is_file() and not copy.exists():
                copied.append(copy)
                _copy(source, copy)
        if sha256_of(target) != digest:
            raise StoreError(f"{mar} changed after it was checked. Run the command again.")
        yield target.name
    except BaseException:
        for path in copied:
            path.unlink(missing_ok=True)
        raise


def check_place(mar: Path, model_store: Path, *, digest: str) -> None:
    """Raises StoreError unless `mar` is a .mar file that replaces no other in the store."""
    if mar.suffix != ".mar":
        raise StoreError(
            f"{mar} must have the suffix .mar, because TorchServe recognizes archives by it. "
            "Rename the file."
        )
    target = model_store / mar.name
    if target.exists() and sha256_of(target) != digest:
        raise StoreError(
            f"{target} already exists and differs from {mar}. Archives in the model store are "
            "immutable. Package the model under a new version, or rename the archive."
        )


def _copy(source: Path, target: Path) -> None:
    # Hidden while it is partial: whoever lists the store sees whole archives only.
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        shutil.copyfile(source, partial)
        partial.replace(target)
    except OSError as error:
        raise StoreError(
            f"{source} cannot be copied to {target.parent}: {error}. Check the permissions of the "
            "folder and the free space."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
