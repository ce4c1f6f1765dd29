"""Bringing a server to the state that a models file describes.

The file and its archives are read and checked first, and a list of changes is worked out. Then
each change is made as the command of the same name makes it: a default changes only after its
comparison with the certificate, and a version is removed only after it has answered its requests.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shipway.archive.store import check_place, stored
from shipway.engines.protocol import ModelVersion, natural_order
from shipway.errors import ShipwayError
from shipway.releases.differences import default_of, in_words
from shipway.releases.errors import NotApplicable
from shipway.releases.history import Release, Releases, Version
from shipway.releases.models_file import Model, ModelsFile, check_serves
from shipway.releases.rollout import Rollout, Say
from shipway.releases.settings import version_of

if TYPE_CHECKING:
    from shipway.archive.inspect import MarInfo

What = Literal["register", "promote", "scale", "unregister"]
"""`promote` registers the version first if necessary."""

RESTART_REASON = "its new settings apply when it starts again"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetVersion:
    """A version that the models file names, with its archive checked."""

    info: "MarInfo"
    settings: Version

    def __str__(self) -> str:
        return f"{self.info.name} {self.info.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetModel:
    """A model with all its versions, the default first."""

    name: str
    versions: tuple[TargetVersion, ...]

    @property
    def default(self) -> TargetVersion:
        """The version that answers requests that name no version."""
        return self.versions[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One step towards the state that the models file describes."""

    what: What
    name: str
    version: str
    description: str
    """What the change does, for the user to read."""
    target: TargetVersion | None = None
    """The version to register, promote or scale. None for `unregister`."""
    interrupts: bool = False
    """Whether requests that name no version fail for some seconds."""


def check_models(
    file: ModelsFile, store: Path, inspect: "Callable[[Path], MarInfo]"
) -> list[TargetModel]:
    """Inspects the archive of every version in the file.

    Raises ArchiveError, StoreError, NotApplicable or ModelsFileError if an archive is missing,
    damaged, or differs from the file in name, version or digest, and for settings that it cannot
    be served with.
    """
    models = []
    for name in file.names:
        default = file.default_of(name)
        others = [version for version in file.versions_of(name) if version is not default]
        versions = tuple(_checked(version, store, inspect) for version in (default, *others))
        models.append(TargetModel(name=name, versions=versions))
    return models


def _checked(model: Model, store: Path, inspect: "Callable[[Path], MarInfo]") -> TargetVersion:
    path = model.archive or store / f"{model.name}-{model.version}.mar"
    info = inspect(path)
    if model.sha256 not in (None, info.digest):
        raise NotApplicable(
            f"{path} does not match the `sha256` of {model} in the models file: its SHA-256 is "
            f"{info.digest[:12]}…, expected {model.sha256[:12]}…. Copy the archive again, or "
            "correct the models file."
        )
    check_serves(model, path, info.name, info.version, max_batch=info.max_batch)
    check_place(path, store, digest=info.digest)
    settings = version_of(
        info,
        store,
        batch_size=model.batch_size,
        max_batch_delay_ms=model.max_batch_delay_ms,
        workers=model.workers,
    )
    return TargetVersion(info=info, settings=settings)


def plan(
    targets: Sequence[TargetModel], releases: Releases, on_server: Sequence[ModelVersion]
) -> list[Change]:
    """The changes that lead from the versions `on_server` to `targets`, in the order to make them.

    Raises NotApplicable if a version would have to become another archive.
    """
    changes = []
    for model in targets:
        release = releases.models.get(model.name, Release())
        changes += _plan_model(model, release, _of(model.name, on_server))
    recorded = {name for name, release in releases.models.items() if release.versions}
    registered = {version.name for version in on_server}
    for name in sorted((recorded | registered) - {model.name for model in targets}):
        release = releases.models.get(name, Release())
        changes += _removals(name, {}, release, _of(name, on_server))
    return changes


def carry_out(
    rollout: Rollout,
    changes: Sequence[Change],
    *,
    inspect: "Callable[[Path], MarInfo]",
    because: str | None = None,
    say: Say,
) -> Iterator[tuple[Change, ShipwayError | None]]:
    """Makes the changes, and yields each with its error, or None if it succeeded.

    After an error, the remaining changes to the same model are skipped.
    """
    failed = set()
    for change in changes:
        if change.name in failed:
            continue
        say(f"{change.name} {change.version}: {change.description} …")
        try:
            _make(rollout, change, inspect, because)
        except ShipwayError as error:
            failed.add(change.name)
            yield change, error
        else:
            yield change, None


def _make(
    rollout: Rollout,
    change: Change,
    inspect: "Callable[[Path], MarInfo]",
    because: str | None,
) -> None:
    name, version, target = change.name, change.version, change.target
    if target is None:
        rollout.unregister(name, version, because)
    elif change.what == "scale":
        rollout.scale(name, version, target.settings.workers, because)
    else:
        with stored(target.info.path, rollout.store, digest=target.info.digest):
            if change.what == "register":
                rollout.register(name, version, target.settings, because)
            else:
                rollout.promote(
                    name, version, inspect=inspect, settings=target.settings, because=because
                )


def _plan_model(
    model: TargetModel, release: Release, registered: list[ModelVersion]
) -> list[Change]:
    on_server = {version.version: version for version in registered}
    for target in model.versions:
        _check_same_archive(target, release, on_server.get(target.info.version))
    targets = {target.info.version: target for target in model.versions}
    new_default, current = model.default.info.version, default_of(registered)
    to_restart = {
        version
        for version in targets.keys() & on_server.keys()
        if _needs_restart(targets[version].settings, on_server[version])
    }
    if new_default == current and new_default in to_restart:
        return _start_over(model, registered)

    changes = []
    for version, target in targets.items():
        if version in to_restart:
            changes.append(_unregistration(model.name, version, RESTART_REASON))
        is_new = version in to_restart or version not in on_server
        # After a stop: to register the recorded default makes it the default again.
        restores = current is None and version == release.default and is_new
        if version == new_default != current and not restores:
            changes.append(_promotion(target, current, is_new))
        elif is_new:
            changes.append(_registration(target))
        if not is_new and on_server[version].workers < target.settings.workers:
            changes.append(_scaling(target, on_server[version].workers))
    return changes + _removals(model.name, targets, release, registered)


def _start_over(model: TargetModel, registered: list[ModelVersion]) -> list[Change]:
    """Unregisters every version, then registers those of the file.

    TorchServe lets the default version go only after all others.
    """
    changes = [
        _unregistration(model.name, version.version, RESTART_REASON)
        for version in sorted(registered, key=lambda version: version.default)
    ]
    changes[-1] = replace(changes[-1], interrupts=True)
    return changes + [_registration(target) for target in model.versions]


def _removals(
    name: str,
    targets: Mapping[str, TargetVersion],
    release: Release,
    registered: list[ModelVersion],
) -> list[Change]:
    not_in_file = sorted(
        (version for version in registered if version.version not in targets),
        key=lambda version: (version.default, natural_order(version.version)),
    )
    on_server = {version.version for version in registered}
    only_recorded = release.versions.keys() - targets.keys() - on_server
    return [
        _unregistration(name, version.version, "the models file does not name it")
        for version in not_in_file
    ] + [
        _unregistration(name, version, "neither the models file nor the server has it")
        for version in sorted(only_recorded, key=natural_order)
    ]


def _needs_restart(settings: Version, version: ModelVersion) -> bool:
    """Whether the settings differ in what TorchServe cannot change while a version runs.

    It cannot change how a version batches, and it ends workers without waiting for their requests.
    """
    return (
        settings.batch_size,
        settings.max_batch_delay_ms,
    ) != (version.batch_size, version.max_batch_delay_ms) or settings.workers < version.workers


def _check_same_archive(
    target: TargetVersion, release: Release, registered: ModelVersion | None
) -> None:
    recorded = release.versions.get(target.info.version)
    if recorded and recorded.digest != target.info.digest:
        raise NotApplicable(
            f"{target} was registered from an archive with the SHA-256 {recorded.digest[:12]}…, "
            f"but {target.info.path} has {target.info.digest[:12]}…. Versions are immutable: "
            "package the model under a new version."
        )
    if registered and not recorded and registered.mar != target.settings.mar:
        raise NotApplicable(
            f"{target} was registered without Shipway, from {registered.mar}, but the models file "
            f"gives {target.settings.mar}. Package the model under a new version."
        )


def _registration(target: TargetVersion) -> Change:
    return Change(
        what="register",
        name=target.info.name,
        version=target.info.version,
        description=f"register with {in_words(target.settings)}",
        target=target,
    )


def _promotion(target: TargetVersion, current: str | None, is_new: bool) -> Change:
    first = f"register with {in_words(target.settings)}, then " if is_new else ""
    instead = f" instead of {current}" if current else ""
    return Change(
        what="promote",
        name=target.info.name,
        version=target.info.version,
        description=f"{first}make it the default{instead} after its answers match its certificate",
        target=target,
    )


def _scaling(target: TargetVersion, workers: int) -> Change:
    return Change(
        what="scale",
        name=target.info.name,
        version=target.info.version,
        description=f"{target.settings.workers} workers instead of {workers}",
        target=target,
    )


def _unregistration(name: str, version: str, reason: str) -> Change:
    return Change(
        what="unregister",
        name=name,
        version=version,
        description=f"unregister after it has answered its requests: {reason}",
    )


def _of(name: str, versions: Sequence[ModelVersion]) -> list[ModelVersion]:
    return [version for version in versions if version.name == name]
