"""Archives of this project with something changed in how they serve, to measure what it costs."""

import shutil
import tempfile
import zipfile
from pathlib import Path

from handlers.archive import TORCHSERVE_MANIFEST
from shipway.artifact.digests import SUMS, write_sums

ENTRY = "entry.py"


def with_code(mar: Path, destination: Path, code: str) -> Path:
    """`mar` at `destination`, its entry followed by `code`, sealed anew.

    `code` finds the class `Model`, whose one instance TorchServe makes, and may subclass it no
    further: TorchServe wants one class in the file.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with zipfile.ZipFile(mar) as archive:
            archive.extractall(folder)
        (folder / SUMS).unlink()
        manifest = (folder / TORCHSERVE_MANIFEST).read_bytes()
        shutil.rmtree(folder / "MAR-INF")  # TorchServe's own, which no seal covers
        with (folder / ENTRY).open("a") as entry:
            entry.write(f"\n\n{code}\n")
        write_sums(folder)
        destination.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(destination, "w") as archive:
            archive.writestr(TORCHSERVE_MANIFEST, manifest)
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    archive.write(path, path.relative_to(folder).as_posix())
    return destination
