"""What a server has of a model, in words, and where it is not what the file of releases says."""

from shipway.engines.errors import ModelNotFound
from shipway.engines.protocol import Engine, ModelVersion, natural_order
from shipway.releases.history import Release, Version


def differences(name: str, release: Release | None, there: list[ModelVersion]) -> list[str]:
    """How a model on the server differs from what is recorded of it, one sentence each."""
    release = release or Release()
    on_server = {one.version: one for one in there}
    found = []
    for version in sorted(release.versions.keys() | on_server.keys(), key=natural_order):
        one, wanted = on_server.get(version), release.versions.get(version)
        if one is None:
            found.append(f"{name} {version} should be registered and is not")
        elif wanted is None:
            found.append(f"{name} {version} was registered by other means")
        elif (one.workers, one.batch_size, one.max_batch_delay_ms) != (
            wanted.workers,
            wanted.batch_size,
            wanted.max_batch_delay_ms,
        ):
            found.append(f"{name} {version} has other settings than those noted here")
    default = default_of(there)
    if there and release.default and default != release.default:
        found.append(f"the default of {name} is {default}; {release.default} is noted here")
    return found


def versions_on(engine: Engine, name: str) -> list[ModelVersion]:
    """Every version of a model on the server; none if it is not registered."""
    try:
        return engine.versions(name)
    except ModelNotFound:
        return []


def in_words(settings: Version | ModelVersion) -> str:
    """The settings of a version, in a few words."""
    workers = "1 worker" if settings.workers == 1 else f"{settings.workers} workers"
    return f"{workers}, batches of {settings.batch_size}, {settings.max_batch_delay_ms} ms delay"


def default_of(there: list[ModelVersion]) -> str | None:
    """The version that answers requests that name none."""
    return next((one.version for one in there if one.default), None)
