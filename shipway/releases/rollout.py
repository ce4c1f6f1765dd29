"""What is served, changed safely: registered, promoted, rolled back, unregistered, restored.

Each change is made on the server first and then noted in the file of releases. What somebody did to
the server by other means is noted as found, at the next change to the same model.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shipway.archive.errors import StoreError
from shipway.archive.signatures import check_signature
from shipway.artifact.digests import sha256_of
from shipway.artifact.errors import ArtifactError
from shipway.engines.connection import connect
from shipway.engines.errors import VersionNotFound
from shipway.engines.protocol import Deployable, Engine, ModelVersion, natural_order
from shipway.engines.state import StateDirectory
from shipway.errors import ShipwayError
from shipway.releases.comparison import compare
from shipway.releases.differences import default_of, versions_on
from shipway.releases.errors import NoFallback, NotPromoted
from shipway.releases.history import (
    Release,
    Releases,
    Version,
    evolved,
    exclusively,
    noted,
    read_releases,
    write_releases,
)
from shipway.releases.settings import version_of

if TYPE_CHECKING:
    from shipway.archive.inspect import MarInfo

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
    with exclusively(state, doing), closing(connect(state)) as engine:
        yield Rollout(state, engine, read_releases(state), warn)


class Rollout:
    """Changes to one server, made and noted. `changing` gives one."""

    def __init__(
        self, state: StateDirectory, engine: Engine, releases: Releases, warn: Say
    ) -> None:
        self._state = state
        self._engine = engine
        self._releases = releases
        self._warn = warn
        self._policy = engine.signature_policy()
        self.store = Path(state.require_running().model_store)
        """The server's model store."""

    @property
    def releases(self) -> Releases:
        """What should be served, as it is noted."""
        return self._releases

    def models(self) -> list[ModelVersion]:
        """What the server has."""
        return self._engine.versions()

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
        release = evolved(release, versions, default, (*release.before, release.default))
        self._publish(name, noted(release, "registered", version, wanted.digest, because))
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
                self._engine.unregister(name, version)
            raise
        self._engine.set_default(name, version)
        if new:
            versions = dict(release.versions) | {version: wanted}
            release = evolved(release, versions, release.default, release.before)
            release = noted(release, "registered", version, wanted.digest, because)
        previous, before = release.default, (*release.before, release.default)
        release = evolved(release, release.versions, version, before)
        self._publish(name, noted(release, "promoted", version, wanted.digest, because))
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
        self._engine.set_default(name, target)
        digest = release.versions[target].digest
        release = evolved(release, release.versions, target, release.before[:-1])
        self._publish(name, noted(release, "rolled back", target, digest, because))
        return target, default

    def scale(self, name: str, version: str, workers: int, because: str | None = None) -> None:
        """Gives a version more workers; returns when they are ready, or raises WorkersFailed."""
        release = self._found(name)
        self._engine.scale(name, version, workers)
        wanted = release.versions[version].model_copy(update={"workers": workers})
        versions = dict(release.versions) | {version: wanted}
        release = evolved(release, versions, release.default, release.before)
        self._publish(name, noted(release, "scaled", version, wanted.digest, because))

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
            drained = self._engine.unregister(name, version, drain_within_s=DRAINED_WITHIN_S)
            default = default_of([each for each in there if each is not one])
        versions = dict(release.versions)
        digest = versions.pop(version).digest
        release = evolved(release, versions, default, release.before)
        self._publish(name, noted(release, "unregistered", version, digest, because))
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
                self._engine.set_default(name, str(release.default))

    def _there(self, name: str) -> list[ModelVersion]:
        return versions_on(self._engine, name)

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
        release = evolved(release, versions, default, (*release.before, release.default))
        for version in sorted(news, key=natural_order):
            release = noted(release, "found", version, versions[version].digest, None)
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
            self._policy.trusted_keys,
            required=self._policy.required,
        )
        if remark:
            self._warn(remark)

    def _start(self, name: str, version: str, wanted: Version) -> None:
        self._engine.register(
            Deployable(
                name=name,
                version=version,
                archive=self.store / wanted.mar,
                batch_size=wanted.batch_size,
                max_batch_delay_ms=wanted.max_batch_delay_ms,
                workers=wanted.workers,
            )
        )

    def _from_store(self, name: str, version: str, inspect: Callable[[Path], "MarInfo"]) -> Version:
        path = self.store / f"{name}-{version}.mar"
        if not path.exists():
            there = ", ".join(one.version for one in self._there(name)) or "none"
            raise VersionNotFound(
                f"{name} {version} is neither registered ({there}) nor in the model store as "
                f"{path}. `shipway package` puts it there."
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
        # numpy takes half a second to import, and most commands compare nothing.
        from shipway.archive.samples import read_samples

        self._await_warm(name, version)
        self._check_archive(name, version, wanted)
        samples = read_samples(self.store / wanted.mar)
        if samples is None:
            return "its archive has no samples to compare with"
        say(f"Comparing the answers of {name} {version} with its certificate …")
        return compare(self._engine, name, version, samples)

    def _await_warm(self, name: str, version: str) -> None:
        deadline = time.monotonic() + WARM_WITHIN_S
        while True:
            [one] = [each for each in self._there(name) if each.version == version]
            if one.warm:
                return
            if not one.workers or time.monotonic() > deadline:
                raise NotPromoted(
                    f"{name} {version} was not promoted: {one.workers_ready} of its {one.workers} "
                    f"workers are ready. {self._state.logs} has what they printed."
                )
            time.sleep(LOOK_AGAIN_S)


def _by_importance(release: Release) -> list[str]:
    """The default, what a rollback would lead to, and the others."""
    others = sorted(release.versions, key=natural_order)
    wanted = (release.default, *reversed(release.before), *others)
    return list(dict.fromkeys(each for each in wanted if each and each in release.versions))
