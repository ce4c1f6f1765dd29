"""Describes the versions on a server, and how they differ from the file of releases."""

from shipway.engines.errors import ModelNotFound
from shipway.engines.protocol import Engine, ModelVersion, natural_order
from shipway.releases.history import Release, Version


def differences(name: str, release: Release | None, registered: list[ModelVersion]) -> list[str]:
    """The differences between a model on the server and its record, one clause for each."""
    release = release or Release()
    on_server = {version.version: version for version in registered}
    clauses = []
    for version in sorted(release.versions.keys() | on_server.keys(), key=natural_order):
        actual, recorded = on_server.get(version), release.versions.get(version)
        if actual is None:
            clauses.append(f"{name} {version} should be registered but is not")
        elif recorded is None:
            clauses.append(f"{name} {version} was registered without Shipway")
        elif (actual.workers, actual.batch_size, actual.max_batch_delay_ms) != (
            recorded.workers,
            recorded.batch_size,
            recorded.max_batch_delay_ms,
        ):
            clauses.append(f"{name} {version} has other settings than recorded")
    default = default_of(registered)
    if registered and default is None:
        recorded_default = f"; the record says {release.default}" if release.default else ""
        clauses.append(f"{name} has no default version{recorded_default}")
    elif registered and release.default and default != release.default:
        clauses.append(f"the default of {name} is {default}; the record says {release.default}")
    return clauses


def versions_on(engine: Engine, name: str) -> list[ModelVersion]:
    """Every version of a model on the server; none if it is not registered."""
    try:
        return engine.versions(name)
    except ModelNotFound:
        return []


def in_words(settings: Version | ModelVersion) -> str:
    """The settings of a version in a few words."""
    workers = "1 worker" if settings.workers == 1 else f"{settings.workers} workers"
    return f"{workers}, batches of {settings.batch_size}, {settings.max_batch_delay_ms} ms delay"


def default_of(versions: list[ModelVersion]) -> str | None:
    """The version that answers requests that name none; None if there are no versions."""
    return next((version.version for version in versions if version.default), None)
