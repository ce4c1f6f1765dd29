"""The checks before a version becomes the default: of its archive, its workers and its answers."""

import time
from pathlib import Path

from shipway.archive.errors import StoreError
from shipway.artifact.digests import sha256_of
from shipway.engines.protocol import Engine
from shipway.engines.state import StateDirectory
from shipway.releases.comparison import compare
from shipway.releases.differences import versions_on
from shipway.releases.errors import NotPromoted
from shipway.releases.history import Release, Version

WARM_WITHIN_S = 60.0
"""How long to wait for the workers of a registered version; one may be restarting."""
LOOK_AGAIN_S = 0.3


def prove(
    engine: Engine,
    state: StateDirectory,
    name: str,
    version: str,
    settings: Version,
    *,
    change: str = "promoted",
) -> str:
    """Compares the answers of a registered version with its certificate.

    Returns the result in words. Raises NotPromoted or StoreError. `change` as in `compare`.
    """
    # numpy takes half a second to import, and most commands compare nothing.
    from shipway.archive.samples import read_samples

    _await_warm(engine, state, name, version, change)
    store = Path(state.require_running().model_store)
    check_archive(store, name, version, settings)
    samples = read_samples(store / settings.mar)
    if samples is None:
        return "its archive has no samples to compare with"
    return compare(engine, name, version, samples, change=change)


def check_archive(store: Path, name: str, version: str, settings: Version) -> None:
    """Raises StoreError unless the archive in the store is the one that was registered."""
    path = store / settings.mar
    advice = (
        f"Restore the file and run `shipway register {path}`, or run `shipway unregister {name} "
        f"{version}` and register another version."
    )
    if not path.is_file():
        raise StoreError(f"The archive {path} is missing. {advice}")
    if (found := sha256_of(path)) != settings.digest:
        raise StoreError(
            f"The archive {path} is not the file that was registered: its SHA-256 is "
            f"{found[:12]}…, expected {settings.digest[:12]}…. {advice}"
        )


def check_same_archive(name: str, version: str, settings: Version, release: Release) -> None:
    """Raises StoreError if a version of this name was registered from another archive.

    A version that could not be restored after a restart keeps its record.
    """
    recorded = release.versions.get(version)
    if recorded and recorded.digest != settings.digest:
        raise StoreError(
            f"{name} {version} was registered from an archive with the SHA-256 "
            f"{recorded.digest[:12]}…, but {settings.mar} has {settings.digest[:12]}…. Versions "
            "are immutable: restore the archive, package the model under a new version, or run "
            f"`shipway unregister {name} {version}` first."
        )


def _await_warm(
    engine: Engine, state: StateDirectory, name: str, version: str, change: str
) -> None:
    deadline = time.monotonic() + WARM_WITHIN_S
    while True:
        [one] = [each for each in versions_on(engine, name) if each.version == version]
        if one.warm:
            return
        if not one.workers or time.monotonic() > deadline:
            raise NotPromoted(
                f"{name} {version} was not {change}: {one.workers_ready} of its {one.workers} "
                f"workers are ready. See the logs in {state.logs}."
            )
        time.sleep(LOOK_AGAIN_S)
