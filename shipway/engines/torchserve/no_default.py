"""Models without a default version, which TorchServe does not know.

TorchServe makes the first registered version of a model its default, and keeps a default as long as
the model has versions. So a placeholder is registered and made the default. It has no workers, so
TorchServe answers 503, or one, which answers 503 with a reason. No client of this package sees the
placeholder among the versions of a model.

The placeholder is a folder in the server's temporary folder, not an archive in the model store,
which may be read-only. TorchServe registers a folder by its path.
"""

import hashlib
import json
import shutil
from pathlib import Path

from shipway.engines.torchserve import no_default_handler
from shipway.engines.torchserve.no_default_handler import REASON
from shipway.files import atomic_write

VERSION = "(no default)"
"""The placeholder's version. No artifact can have it: versions have no spaces."""
FOLDER = "no-default"

NOT_YET = "{name} has no default version yet. Name a version in the request, or try again later."
"""The reason while the first version of a model is registered."""


def placeholder_folder(temporary: Path, name: str) -> Path:
    """The folder of a model's placeholder in the server's temporary folder."""
    # Not the name: TorchServe refuses a path with two dots in a row, and a name may have them.
    return temporary / FOLDER / hashlib.sha256(name.encode()).hexdigest()


def is_placeholder(url: str) -> bool:
    """Whether TorchServe registered a version from a placeholder's folder."""
    return Path(url).is_absolute() and Path(url).parent.name == FOLDER


def write_placeholder(folder: Path, name: str, reason: str) -> None:
    """Writes what TorchServe registers as a placeholder, or changes the reason that it gives."""
    handler = Path(no_default_handler.__file__)
    manifest = {
        "createdOn": "",
        "runtime": "python",
        "archiverVersion": "0.12.0",
        "model": {
            "modelName": name,
            "modelVersion": VERSION,
            "handler": handler.name,
        },
    }
    # Read by worker.py, which otherwise imports torch.
    described = {
        "programs": {"none": {"runtime": "none"}},
        "chosen": "none",
        "preprocessing": {"kind": "none"},
    }
    for file, content in (
        ("MAR-INF/MANIFEST.json", manifest),
        ("artifact/manifest.json", described),
    ):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    shutil.copyfile(handler, folder / handler.name)
    atomic_write(folder / REASON, reason)
