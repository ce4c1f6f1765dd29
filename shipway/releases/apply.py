"""Bringing a server to the state that a models file describes.

First everything is read and checked, and what will be changed is worked out: a list of changes, in
their order. Then they are made, each as the command of the same name makes it, so that a default
changes after its comparison with the certificate, and a version goes when it has answered.
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
"""`promote` registers the version first if need be."""

STARTS_ANEW = "it takes its new settings at its next start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A version that the models file names, its archive checked."""

    info: "MarInfo"
    settings: Version

    def __str__(self) -> str:
        return f"{self.info.name} {self.info.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedModel:
    """A model with all its versions, the default first."""

    name: str
    versions: tuple[Wanted, ...]

    @property
    def default(self) -> Wanted:
        """Answers requests that name no version."""
        return self.versions[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One step on the way."""

    what: What
    name: str
    version: str
    told: str
    """What it does, in words."""
    wanted: Wanted | None = None
    """What to register, promote or scale to."""
    interrupts: bool = False
    """Whether requests that name no version get no answer for a while."""


def check_models(
    file: ModelsFile, store: Path, inspect: "Callable[[Path], MarInfo]"
) -> list[WantedModel]:
    """Every version of the file with its archive, which is inspected.

    Raises ArchiveError, StoreError, NotApplicable or ModelsFileError for an archive that is
    missing, damaged, or of another name, version or digest than the file says, and for settings
    that it cannot be served with.
    """
    wanted = []
    for name in file.names:
        default = file.default_of(name)
        others = [each for each in file.versions_of(name) if each is not default]
        versions = tuple(_checked(each, store, inspect) for each in (default, *others))
        wanted.append(WantedModel(name=name, versions=versions))
    return wanted


def _checked(model: Model, store: Path, inspect: "Callable[[Path], MarInfo]") -> Wanted:
    path = model.archive or store / f"{model.name}-{model.version}.mar"
    info = inspect(path)
    if model.sha256 not in (None, info.digest):
        raise NotApplicable(
            f"{path} is not the archive of {model} that the models file names: its SHA-256 is "
            f"{info.digest[:12]}…, there it is {model.sha256[:12]}…. Copy it again, or correct the "
            "file."
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
    return Wanted(info=info, settings=settings)


def plan(
    wanted: Sequence[WantedModel], releases: Releases, there: Sequence[ModelVersion]
) -> list[Change]:
    """What leads from the server as it is, `there`, to what is wanted, in the order to do it.

    Raises NotApplicable for what cannot be.
    """
    changes = []
    for model in wanted:
        release = releases.models.get(model.name, Release())
        changes += _plan_model(model, release, _of(model.name, there))
    noted = {name for name, release in releases.models.items() if release.versions}
    for name in sorted((noted | {one.name for one in there}) - {model.name for model in wanted}):
        release = releases.models.get(name, Release())
        changes += _removals(name, {}, release, _of(name, there))
    return changes


def carry_out(
    rollout: Rollout,
    changes: Sequence[Change],
    *,
    inspect: "Callable[[Path], MarInfo]",
    because: str | None = None,
    say: Say,
) -> Iterator[tuple[Change, ShipwayError | None]]:
    """Makes the changes: each, and why it failed. What follows for the same model is left out."""
    failed = set()
    for change in changes:
        if change.name in failed:
            continue
        say(f"{change.name} {change.version}: {change.told} …")
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
    name, version, wanted = change.name, change.version, change.wanted
    if wanted is None:
        rollout.unregister(name, version, because)
    elif change.what == "scale":
        rollout.scale(name, version, wanted.settings.workers, because)
    else:
        with stored(wanted.info.path, rollout.store, digest=wanted.info.digest):
            if change.what == "register":
                rollout.register(name, version, wanted.settings, because)
            else:
                rollout.promote(
                    name, version, inspect=inspect, settings=wanted.settings, because=because
                )


def _plan_model(model: WantedModel, release: Release, there: list[ModelVersion]) -> list[Change]:
    on_server = {one.version: one for one in there}
    for each in model.versions:
        _check_same_archive(each, release, on_server.get(each.info.version))
    wanted = {each.info.version: each for each in model.versions}
    target, current = model.default.info.version, default_of(there)
    again = {
        version
        for version in wanted.keys() & on_server.keys()
        if _needs_new_start(wanted[version].settings, on_server[version])
    }
    if target == current and target in again:
        return _start_over(model, there)

    changes = []
    for version, each in wanted.items():
        if version in again:
            changes.append(_unregister(model.name, version, STARTS_ANEW))
        is_new = version in again or version not in on_server
        # What was the default when the server stopped has proved itself.
        proven = current is None and version == release.default
        if version == target != current and not proven:
            changes.append(_promotion(each, current, is_new))
        elif is_new:
            changes.append(_registration(each))
        if not is_new and on_server[version].workers < each.settings.workers:
            changes.append(_scaling(each, on_server[version].workers))
    return changes + _removals(model.name, wanted, release, there)


def _start_over(model: WantedModel, there: list[ModelVersion]) -> list[Change]:
    """TorchServe keeps its default to the last, so all go where the default has to."""
    changes = [
        _unregister(model.name, one.version, STARTS_ANEW)
        for one in sorted(there, key=lambda one: one.default)
    ]
    changes[-1] = replace(changes[-1], interrupts=True)
    return changes + [_registration(each) for each in model.versions]


def _removals(
    name: str, wanted: Mapping[str, Wanted], release: Release, there: list[ModelVersion]
) -> list[Change]:
    gone = sorted(
        (one for one in there if one.version not in wanted),
        key=lambda one: (one.default, natural_order(one.version)),
    )
    forgotten = release.versions.keys() - wanted.keys() - {one.version for one in there}
    return [_unregister(name, one.version, "the file does not name it") for one in gone] + [
        _unregister(name, version, "neither the file nor the server has it")
        for version in sorted(forgotten, key=natural_order)
    ]


def _needs_new_start(wanted: Version, one: ModelVersion) -> bool:
    """TorchServe cannot change how a version batches, and ends a worker amid its requests."""
    return (
        wanted.batch_size,
        wanted.max_batch_delay_ms,
    ) != (one.batch_size, one.max_batch_delay_ms) or wanted.workers < one.workers


def _check_same_archive(each: Wanted, release: Release, one: ModelVersion | None) -> None:
    noted = release.versions.get(each.info.version)
    if noted and noted.digest != each.info.digest:
        raise NotApplicable(
            f"{each} was registered from an archive whose SHA-256 is {noted.digest[:12]}…; that of "
            f"{each.info.path} is {each.info.digest[:12]}…, and a version never changes. Package "
            "under a new one."
        )
    if one and not noted and one.mar != each.settings.mar:
        raise NotApplicable(
            f"{each} was registered by other means from {one.mar}; the models file says "
            f"{each.settings.mar}. Package under a new version."
        )


def _registration(each: Wanted) -> Change:
    return Change(
        what="register",
        name=each.info.name,
        version=each.info.version,
        told=f"register with {in_words(each.settings)}",
        wanted=each,
    )


def _promotion(each: Wanted, current: str | None, is_new: bool) -> Change:
    first = f"register with {in_words(each.settings)}, and " if is_new else ""
    instead = f" instead of {current}" if current else ""
    return Change(
        what="promote",
        name=each.info.name,
        version=each.info.version,
        told=f"{first}make it the default{instead}, once it answers as certified",
        wanted=each,
    )


def _scaling(each: Wanted, workers: int) -> Change:
    return Change(
        what="scale",
        name=each.info.name,
        version=each.info.version,
        told=f"{each.settings.workers} workers instead of {workers}",
        wanted=each,
    )


def _unregister(name: str, version: str, why: str) -> Change:
    return Change(
        what="unregister",
        name=name,
        version=version,
        told=f"unregister when it has answered: {why}",
    )


def _of(name: str, there: Sequence[ModelVersion]) -> list[ModelVersion]:
    return [one for one in there if one.name == name]
