"""What is served, changed safely: registered, promoted, rolled back, unregistered, restored.

Each change is made on the server first and then noted in the file of releases. What somebody did to
the server by other means is noted as found, at the next change to the same model.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shipway.archive.signatures import check_signature
from shipway.artifact.digests import sha256_of
from shipway.artifact.errors import ArtifactError
from shipway.artifact.tuned import read_tuned
from shipway.engines.errors import (
    ModelNotFound,
    NoFallback,
    NoServer,
    NotPromoted,
    PredictionFailed,
    Refused,
    StoreError,
    Unreachable,
    VersionNotFound,
)
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve.config import read_config
from shipway.engines.torchserve.inference import HttpPredictor
from shipway.engines.torchserve.management import ManagementClient, ModelVersion, natural_order
from shipway.errors import ShipwayError
from shipway.releases.history import (
    Event,
    Release,
    Releases,
    Version,
    What,
    exclusively,
    now,
    read_releases,
    whoami,
    write_releases,
)

if TYPE_CHECKING:
    from shipway.archive.mar import MarInfo, Samples

DRAINED_WITHIN_S = 30.0
"""For the requests that a version has taken when it is unregistered."""
WARM_WITHIN_S = 60.0
"""For the workers of a version that was registered before; one may be starting again."""
LOOK_AGAIN_S = 0.3

Say = Callable[[str], object]
"""Shows what is being done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """A promotion that went through."""

    previous: str | None
    """The default before."""
    compared: str
    """What the comparison with the samples found, in words."""


@contextmanager
def changing(
    state: StateDirectory, doing: str, *, warn: Say = lambda remark: None
) -> Iterator["Rollout"]:
    """The one place from which the server of `state` is changed, for one process at a time.

    `warn` gets what there is to say of signatures. Raises NoServer, ChangeUnderWay or
    ReleasesError.
    """
    state.require_running()
    with exclusively(state, doing), closing(ManagementClient(state)) as management:
        yield Rollout(state, management, read_releases(state), warn)


class Rollout:
    def __init__(
        self,
        state: StateDirectory,
        management: ManagementClient,
        releases: Releases,
        warn: Say,
    ) -> None:
        record = state.require_running()
        self._state = state
        self._management = management
        self._releases = releases
        self._warn = warn
        self.store = Path(record.model_store)
        """The server's model store."""
        self._temporary = Path(record.launch)
        self._config = read_config(Path(record.config))

    @property
    def releases(self) -> Releases:
        """What should be served, as it is noted."""
        return self._releases

    def models(self) -> list[ModelVersion]:
        """What the server has."""
        return self._management.models()

    def register(
        self, name: str, version: str, wanted: Version, because: str | None = None
    ) -> list[ModelVersion]:
        """Registers a version; returns all there are when its workers are ready."""
        self._check_signature(wanted)
        release = self._found(name)
        self._start(name, version, wanted)
        there = self._there(name)
        default = default_of(there)
        versions = dict(release.versions) | {version: wanted}
        release = _evolved(release, versions, default, (*release.before, release.default))
        self._publish(name, _noted(release, "registered", version, wanted.digest, because))
        return there

    def promote(
        self,
        name: str,
        version: str,
        *,
        inspect: Callable[[Path], "MarInfo"],
        wanted: Version | None = None,
        because: str | None = None,
        say: Say = lambda doing: None,
    ) -> Promotion:
        """Makes `version` the default once it has shown that it gives the certified outputs.

        If it is not registered, it is registered as `wanted`, or as it is in the model store, and
        taken out again if it is refused. Raises NotPromoted, and what registering raises; the
        default is then what it was.
        """
        release = self._found(name)
        if version == release.default:
            return Promotion(previous=version, compared="")
        new = version not in {one.version for one in self._there(name)}
        if new:
            wanted = wanted or self._from_store(name, version, inspect)
            self._check_signature(wanted)
            say(f"Starting the workers of {name} {version} …")
            self._start(name, version, wanted)
        else:
            wanted = release.versions[version]
        try:
            compared = self._proven(name, version, wanted, say)
        except BaseException:
            if new:
                self._management.unregister(name, version)
            raise
        self._management.promote(name, version)
        if new:
            versions = dict(release.versions) | {version: wanted}
            release = _evolved(release, versions, release.default, release.before)
            release = _noted(release, "registered", version, wanted.digest, because)
        previous, before = release.default, (*release.before, release.default)
        release = _evolved(release, release.versions, version, before)
        self._publish(name, _noted(release, "promoted", version, wanted.digest, because))
        return Promotion(previous=previous, compared=compared)

    def rollback(self, name: str, because: str | None = None) -> tuple[str, str]:
        """Makes the previous default the default again; returns both, the new one first.

        Raises NoFallback. Repeated, it goes further back, so that two people who hurry do not undo
        each other's.
        """
        release = self._found(name)
        target, default = release.fallback, release.default
        if target is None or default is None:
            raise NoFallback(
                f"{name} has no earlier default that is still registered. "
                f"`shipway releases {name}` shows its history; `shipway promote {name} VERSION` "
                "takes a version from the model store."
            )
        ready = [one for one in self._there(name) if one.version == target and one.workers_ready]
        if not ready:
            raise NoFallback(
                f"{name} {target}, the default before {default}, has no worker on the server that "
                f"is ready. `shipway describe {name}` tells what there is."
            )
        self._management.promote(name, target)
        digest = release.versions[target].digest
        release = _evolved(release, release.versions, target, release.before[:-1])
        self._publish(name, _noted(release, "rolled back", target, digest, because))
        return target, default

    def scale(self, name: str, version: str, workers: int, because: str | None = None) -> None:
        """Gives a version more workers; returns when they are ready, or raises WorkersFailed."""
        release = self._found(name)
        self._management.scale(name, version, workers)
        wanted = release.versions[version].model_copy(update={"workers": workers})
        versions = dict(release.versions) | {version: wanted}
        release = _evolved(release, versions, release.default, release.before)
        self._publish(name, _noted(release, "scaled", version, wanted.digest, because))

    def unregister(self, name: str, version: str, because: str | None = None) -> bool:
        """Takes a version out of service when it has answered what it was asked.

        False if it had not, after DRAINED_WITHIN_S. A version that should be served and is not is
        forgotten.
        """
        release = self._found(name)
        there = self._there(name)
        one = next((each for each in there if each.version == version), None)
        drained = True
        if one is None and version in release.versions:
            default = default_of(there)
        else:
            # A default among others is not drained, since the server will refuse to remove it.
            if one is not None and not (one.default and len(there) > 1):
                drained = self._management.await_answers(one, within_s=DRAINED_WITHIN_S)
            self._management.unregister(name, version)
            default = default_of([each for each in there if each is not one])
        versions = dict(release.versions)
        digest = versions.pop(version).digest
        release = _evolved(release, versions, default, release.before)
        self._publish(name, _noted(release, "unregistered", version, digest, because))
        if not drained:
            self._warn(
                f"Some requests of {name} {version} were not answered within "
                f"{DRAINED_WITHIN_S:.0f} s, and will never be."
            )
        return drained

    def restore(self, say: Say) -> Iterator[tuple[str, str, ShipwayError | None]]:
        """Registers all that should be served and is not: each name and version, and what failed.

        The defaults come first, so that each model answers as soon as it can.
        """
        order = [
            (place, name, version)
            for name, release in self._releases.models.items()
            for place, version in enumerate(_by_importance(release))
        ]
        for _, name, version in sorted(order, key=lambda each: each[0]):
            if version in {one.version for one in self._there(name)}:
                continue
            say(f"Restoring {name} {version} …")
            try:
                wanted = self._releases.models[name].versions[version]
                self._check_archive(name, version, wanted)
                self._check_signature(wanted)
                self._start(name, version, wanted)
            except ShipwayError as error:
                yield name, version, error
            else:
                yield name, version, None
        for name, release in self._releases.models.items():
            there = self._there(name)
            if release.default in {one.version for one in there if not one.default}:
                self._management.promote(name, str(release.default))

    def _there(self, name: str) -> list[ModelVersion]:
        return versions_on(self._management, name)

    def _found(self, name: str) -> Release:
        """The release as the server has it now, with events for what was done by other means."""
        release = self._releases.models.get(name, Release())
        there = self._there(name)
        default = default_of(there) or release.default
        news = {one.version for one in there} - release.versions.keys()
        if default and default != release.default:
            news.add(default)
        versions = dict(release.versions) | {
            one.version: Version(
                mar=one.mar,
                digest=self._digest_of(one, release.versions.get(one.version)),
                batch_size=one.batch_size,
                max_batch_delay_ms=one.max_batch_delay_ms,
                workers=one.workers,
            )
            for one in there
        }
        release = _evolved(release, versions, default, (*release.before, release.default))
        for version in sorted(news, key=natural_order):
            release = _noted(release, "found", version, versions[version].digest, None)
        return release

    def _digest_of(self, one: ModelVersion, known: Version | None) -> str:
        if known:
            return known.digest
        try:
            return sha256_of(self.store / one.mar)
        except ArtifactError as error:
            raise StoreError(
                f"{one.name} {one.version} was registered by other means from {one.mar}, which is "
                f"no file in the model store ({error}), so nothing could bring it back. "
                "Unregister it by the same means first."
            ) from error

    def _publish(self, name: str, release: Release) -> None:
        models = dict(self._releases.models) | {name: release}
        self._releases = self._releases.model_copy(update={"models": models})
        write_releases(self._state, self._releases)

    def _check_signature(self, wanted: Version) -> None:
        # In the store, where it stays as it was found.
        remark = check_signature(
            self.store / wanted.mar,
            self._config.trusted_keys,
            required=self._config.require_signature,
        )
        if remark:
            self._warn(remark)

    def _start(self, name: str, version: str, wanted: Version) -> None:
        try:
            self._management.register(
                wanted.mar,
                name=name,
                version=version,
                batch_size=wanted.batch_size,
                max_batch_delay_ms=wanted.max_batch_delay_ms,
                workers=wanted.workers,
            )
        except Refused:
            # An archive that could not be unpacked to its end: TorchServe leaves what it has of it,
            # so that a full disk stays full.
            for left in self._temporary.glob("models*.download"):
                shutil.rmtree(left, ignore_errors=True)
            raise

    def _from_store(self, name: str, version: str, inspect: Callable[[Path], "MarInfo"]) -> Version:
        path = self.store / f"{name}-{version}.mar"
        if not path.exists():
            there = ", ".join(one.version for one in self._there(name)) or "none"
            raise VersionNotFound(
                f"{name} {version} is neither registered ({there}) nor in the model store as "
                f"{path}. `shipway package` puts it there.",
                code=404,
                type="ModelVersionNotFoundException",
            )
        return version_of(inspect(path), self.store)

    def _check_archive(self, name: str, version: str, wanted: Version) -> None:
        path = self.store / wanted.mar
        advice = (
            f"Put the file back, or `shipway unregister {name} {version}` and register another."
        )
        if not path.is_file():
            raise StoreError(f"Its archive {path} is not there. {advice}")
        if (found := sha256_of(path)) != wanted.digest:
            raise StoreError(
                f"Its archive {path} is not the file that was registered: its SHA-256 is "
                f"{found[:12]}…, expected {wanted.digest[:12]}…. {advice}"
            )

    def _proven(self, name: str, version: str, wanted: Version, say: Say) -> str:
        """What the comparison with the samples found; raises NotPromoted, StoreError."""
        from shipway.archive.mar import read_samples

        self._await_warm(name, version)
        self._check_archive(name, version, wanted)
        samples = read_samples(self.store / wanted.mar)
        if samples is None:
            return "its archive has no samples to compare with"
        say(f"Comparing the answers of {name} {version} with its certificate …")
        with closing(HttpPredictor(self._state)) as predictor:
            return compare(predictor, name, version, samples)

    def _await_warm(self, name: str, version: str) -> None:
        deadline = time.monotonic() + WARM_WITHIN_S
        while True:
            [one] = [each for each in self._there(name) if each.version == version]
            if one.warm:
                return
            if not one.workers or time.monotonic() > deadline:
                raise NotPromoted(
                    f"{name} {version} was not promoted: {one.workers_ready} of its {one.workers} "
                    f"workers are ready. {self._state.worker_log} has what they said."
                )
            time.sleep(LOOK_AGAIN_S)


def compare(predictor: HttpPredictor, name: str, version: str, samples: "Samples") -> str:
    """Asks for each sample row by itself; raises NotPromoted if an output is not as certified."""
    import numpy as np

    from shipway.artifact.samples import relative_error

    rows = len(next(iter(samples.inputs.values())))
    refused = f"{name} {version} was not promoted"
    answers = []
    for row in range(rows):
        inputs = {key: array[row : row + 1] for key, array in samples.inputs.items()}
        try:
            answers.append(predictor.infer(name, inputs, version=version))
        except PredictionFailed as error:
            raise NotPromoted(f"{refused}: its sample {row} got no answer: {error}") from error
    program = answers[0].program
    tolerance = samples.tolerances.get(program)
    if tolerance is None:
        raise NotPromoted(f"{refused}: its certificate has no program {program!r}, which answered.")
    off_by = max(
        relative_error(reference, np.concatenate([each.outputs[key] for each in answers]))
        for key, reference in samples.outputs.items()
    )
    if not off_by <= tolerance:  # NaN is not
        raise NotPromoted(
            f"{refused}: on {rows} samples its outputs are off by {off_by:.2g} of eager's; its "
            f"certificate allows {program} {tolerance:.2g}."
        )
    return f"{rows} samples answered as certified (off by {off_by:.2g}, {tolerance:.2g} allowed)"


def ask_why_not_ready(state: StateDirectory, name: str | None = None) -> list[str]:
    """As `why_not_ready`, of the server that runs from `state`, if there is one."""
    try:
        with closing(ManagementClient(state)) as management:
            return why_not_ready(state, management.models(), name)
    except (NoServer, Unreachable, Refused) as error:
        return [str(error)]


def why_not_ready(
    state: StateDirectory, there: Sequence[ModelVersion], name: str | None = None
) -> list[str]:
    """The reasons why the default version of each model, or of `name`, is not warm; none if it is.

    `there` is every version on the server. Raises ReleasesError.
    """
    if state.stopping_file.exists():
        return ["the server is stopping"]
    if state.unapplied_file.exists():
        return state.unapplied_file.read_text().splitlines()
    wanted = {
        each: release.default
        for each, release in read_releases(state).models.items()
        if release.default
    }
    names = [name] if name else sorted(wanted.keys() | {one.name for one in there})
    if not names:
        return ["no model is registered"]
    why = (
        _why_not_warm(each, wanted.get(each), [one for one in there if one.name == each])
        for each in names
    )
    return [reason for reason in why if reason]


def _why_not_warm(name: str, wanted: str | None, there: list[ModelVersion]) -> str | None:
    default = next((one for one in there if one.default), None)
    if default is None:
        return f"{name} is not registered"
    if wanted and wanted not in {one.version for one in there}:
        return f"{name} {wanted}, its default, is not registered"
    if not default.warm:
        ready = f"{default.workers_ready} of {default.workers} workers are ready"
        return f"{name} {default.version}, its default: {ready}"
    return None


def differences(name: str, release: Release | None, there: list[ModelVersion]) -> list[str]:
    """What the server has of a model other than what the file says, in words."""
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


def versions_on(management: ManagementClient, name: str) -> list[ModelVersion]:
    """What the server has of a model, which may be nothing."""
    try:
        return management.describe(name)
    except ModelNotFound:
        return []


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


def in_words(settings: Version | ModelVersion) -> str:
    """How a version is served."""
    workers = "1 worker" if settings.workers == 1 else f"{settings.workers} workers"
    return f"{workers}, batches of {settings.batch_size}, {settings.max_batch_delay_ms} ms delay"


def default_of(there: list[ModelVersion]) -> str | None:
    """The version that answers requests that name none."""
    return next((one.version for one in there if one.default), None)


def _by_importance(release: Release) -> list[str]:
    """The default, what a rollback would lead to, and the others."""
    others = sorted(release.versions, key=natural_order)
    wanted = (release.default, *reversed(release.before), *others)
    return list(dict.fromkeys(each for each in wanted if each and each in release.versions))


def _evolved(
    release: Release,
    versions: Mapping[str, Version],
    default: str | None,
    before: Iterable[str | None],
) -> Release:
    """The release with other versions and defaults; earlier defaults are those still there."""
    kept = [each for each in before if each in versions and each != default]
    each_once = tuple(reversed(dict.fromkeys(reversed(kept))))  # where it came last
    return release.model_copy(
        update={"versions": versions, "default": default, "before": each_once}
    )


def _noted(release: Release, what: What, version: str, digest: str, because: str | None) -> Release:
    event = Event(
        at=now(),
        what=what,
        version=version,
        digest=digest,
        default=release.default,
        by=whoami(),
        because=because,
    )
    return release.model_copy(update={"history": (*release.history, event)})
