"""Archives with one thing different."""

import zipfile
from collections.abc import Callable
from pathlib import Path


def rewritten(mar: Path, destination: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A whole zip with one thing different: `change(name, data)` gives the new data or None."""
    with zipfile.ZipFile(mar) as old, zipfile.ZipFile(destination, "w") as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return destination
