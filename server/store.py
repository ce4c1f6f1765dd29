"""The model store: the one folder from which TorchServe may load archives."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.errors import StoreError
from shipway.artifact.digests import sha256_of


@contextmanager
def stored(mar: Path, model_store: Path, *, digest: str) -> Iterator[str]:
    """The name under which TorchServe finds `mar` in the store, where it is copied if need be.

    If the block raises, a file that was copied for it is removed again.
    """
    if mar.suffix != ".mar":
        raise StoreError(f"{mar} must be named *.mar: TorchServe opens an archive by its name.")
    target = model_store / mar.name
    if target.exists():
        if sha256_of(target) != digest:
            raise StoreError(
                f"{target} is another file than {mar}, and a stored archive never changes. "
                "Package under a new version, or give the file another name."
            )
        yield target.name
        return
    _copy(mar, target)
    try:
        yield target.name
    except BaseException:
        target.unlink(missing_ok=True)
        raise


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
