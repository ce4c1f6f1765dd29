"""The settings of a version: those given, those tuned for it, or those of its archive."""

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
    recorded: Version | None = None,
) -> Version:
    """An archive with the given settings. The others are those that were `recorded` for this
    archive, or else the tuned ones, or else its own.

    Raises InvalidManifest if the tuned settings cannot be read.
    """
    tuned = read_tuned(store, info.name, info.version)
    same = recorded if recorded and recorded.digest == info.digest else None
    serving = same or (tuned.serving if tuned else info)

    def first(given: int | None, otherwise: int) -> int:
        return otherwise if given is None else given

    return Version(
        mar=info.path.name,
        digest=info.digest,
        batch_size=first(batch_size, serving.batch_size),
        max_batch_delay_ms=first(max_batch_delay_ms, serving.max_batch_delay_ms),
        workers=first(workers, serving.workers),
    )
