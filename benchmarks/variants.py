"""Archives of this project with something changed in how they serve, to measure what it costs."""

import tempfile
import zipfile
from pathlib import Path

from handlers.archive import zip_folder
from shipway.artifact.digests import SUMS, write_sums


def with_code(mar: Path, destination: Path, code: str) -> Path:
    """`mar` at `destination`, its entry followed by `code`, sealed anew.

    `code` may define no class: TorchServe wants one in the file.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with zipfile.ZipFile(mar) as archive:
            archive.extractall(folder)
        with (folder / "entry.py").open("a") as entry:
            entry.write(f"\n\n{code}\n")
        (folder / SUMS).unlink()
        write_sums(folder)
        destination.parent.mkdir(parents=True, exist_ok=True)
        zip_folder(folder, destination)
    return destination
