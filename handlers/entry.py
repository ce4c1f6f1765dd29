"""What TorchServe imports from a `.mar`: the archive's own code, checked before it is run."""

import sys
from pathlib import Path

_ARCHIVE = Path(__file__).resolve().parent
# First, whatever else is installed beside the server: an archive serves with its own code.
sys.path.insert(0, str(_ARCHIVE))

from shipway.artifact.digests import check_sums  # noqa: E402

check_sums(_ARCHIVE, ignore=frozenset({"MAR-INF/MANIFEST.json"}))

from handlers.torchserve import Handler  # noqa: E402


class Model(Handler):
    """The one class that TorchServe finds in this file."""
