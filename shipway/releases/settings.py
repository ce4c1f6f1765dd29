"""How a version is served: as asked for, as tuned, or as its archive says."""

from pathlib import Path
from typing import TYPE_CHECKING

from shipway.artifact.tuned import read_tuned
from shipway.releases.history import Version

if TYPE_CHECKING:
    from shipway.archive.inspect import MarInfo


def version_of(
    info: "MarInfo",
    store: Path,
    *,
    batch_size: int | None = None,
    max_batch_delay_ms: int | None = None,
    workers: int | None = None,
) -> Version:
    """An archive with the settings that are given, else those tuned for it, else its own.

    Raises InvalidManifest for tuned settings that do not read.
    """
    tuned = read_tuned(store, info.name, info.version)
    serving = tuned.serving if tuned else info

    def first(wanted: int | None, otherwise: int) -> int:
        return otherwise if wanted is None else wanted

    return Version(
        mar=info.path.name,
        digest=info.digest,
        batch_size=first(batch_size, serving.batch_size),
        max_batch_delay_ms=first(max_batch_delay_ms, serving.max_batch_delay_ms),
        workers=first(workers, serving.workers),
    )
