"""Archives of this project with something changed in how they serve, to measure what it costs."""

import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from shipway.archive.layout import TORCHSERVE_SETTINGS
from shipway.archive.pack import zip_folder
from shipway.artifact.digests import SUMS, write_sums


def with_code(
    mar: Path, destination: Path, code: str, settings: Mapping[str, int] | None = None
) -> Path:
    """`mar` at `destination`, its entry followed by `code`, sealed anew.

    `code` may define no class: TorchServe wants one in the file. `settings` are TorchServe's
    for the model, instead of those that the archive has.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with zipfile.ZipFile(mar) as archive:
            archive.extractall(folder)
        with (folder / "entry.py").open("a") as entry:
            entry.write(f"\n\n{code}\n")
        configured = folder / TORCHSERVE_SETTINGS
        configured.write_text(
            yaml.safe_dump(yaml.safe_load(configured.read_text()) | dict(settings or {}))
        )
        (folder / SUMS).unlink()
        write_sums(folder)
        destination.parent.mkdir(parents=True, exist_ok=True)
        zip_folder(folder, destination)
    return destination
