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
    """The name under which TorchServe finds `mar` in the store, where it is copied if need be.

    A signature beside it comes along. What is in the store then has that SHA-256, whatever became
    of `mar` since it was taken. If the block raises, what was copied for it is removed again.
    """
    check_place(mar, model_store, digest=digest)
    target = model_store / mar.name
    copied = []
    try:
        for source, wanted in ((mar, target), (signature_of(mar), signature_of(target))):
            if source.is_file() and not wanted.exists():
                copied.append(wanted)
                _copy(source, wanted)
        check_place(mar, model_store, digest=digest)
        yield target.name
    except BaseException:
        for each in copied:
            each.unlink(missing_ok=True)
        raise


def check_place(mar: Path, model_store: Path, *, digest: str) -> None:
    """Raises StoreError unless `mar` can be in the store, or what is there has that SHA-256."""
    if mar.suffix != ".mar":
        raise StoreError(f"{mar} must be named *.mar: TorchServe opens an archive by its name.")
    target = model_store / mar.name
    if target.exists() and sha256_of(target) != digest:
        raise StoreError(
            f"{target} is another file than {mar} was when it was checked, and a stored "
            "archive never changes. Package under a new version, or give it another name."
        )


def _copy(source: Path, target: Path) -> None:
    # Hidden while it is partial: whoever lists the store sees whole archives only.
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        shutil.copyfile(source, partial)
        partial.replace(target)
    except OSError as error:
        raise StoreError(f"{source} cannot be copied to {target.parent}: {error}.") from error
    finally:
        partial.unlink(missing_ok=True)
