"""Changes to what is served: register, promote, roll back, scale, unregister, restore.

A change is made on the server first and then recorded in the file of releases. What was changed on
the server without Shipway is recorded as `found`, at the next change to the same model.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shipway.archive.errors import StoreError
from shipway.archive.signatures import check_signature
from shipway.artifact.digests import sha256_of
from shipway.artifact.errors import ArtifactError
from shipway.engines.connection import connect
from shipway.engines.errors import ServerError, VersionNotFound
from shipway.engines.protocol import Deployable, Engine, ModelVersion, natural_order
from shipway.engines.state import StateDirectory
from shipway.errors import ShipwayError
from shipway.releases.differences import default_of, versions_on
from shipway.releases.errors import NoFallback
from shipway.releases.history import (
    Release,
    Releases,
    Version,
    defaults_before,
    evolved,
    exclusively,
    noted,
    read_releases,
    write_releases,
)
from shipway.releases.proof import check_archive, check_same_archive, prove
from shipway.releases.settings import version_of
from shipway.releases.without_default import note_unrestored, settle

if TYPE_CHECKING:
    from shipway.archive.inspect import MarInfo

DRAINED_WITHIN_S = 30.0
"""How long a version that is unregistered may take to answer the requests it has."""

Say = Callable[[str], object]
"""Shows what is being done now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """A promotion that succeeded."""

    previous: str | None
    """The default before it."""
    compared: str
    """The result of the comparison with the samples, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A registration that succeeded."""

    versions: list[ModelVersion]
    """Every version of the model on the server."""
    compared: str
    """The result of the comparison with the samples, in words; empty if it is not the default."""


@contextmanager
def changing(
    state: StateDirectory, doing: str, *, warn: Say = lambda remark: None
) -> Iterator["Rollout"]:
    """The right to change the server of `state`, which one process at a time can have.

    `warn` receives warnings about signatures. Raises NoServer, ChangeUnderWay or ReleasesError.
    """
    state.require_running()
    with exclusively(state, doing), closing(connect(state)) as engine:
        yield Rollout(state, engine, read_releases(state), warn)


class Rollout:
    """Changes one server and records each change. Made by `changing`."""

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
        """What should be served, as recorded."""
        return self._releases

    def models(self) -> list[ModelVersion]:
        """Every version on the server."""
        return self._engine.versions()

    def register(
        self,
        name: str,
        version: str,
        settings: Version,
        because: str | None = None,
        say: Say = lambda doing: None,
    ) -> Registration:
        """Registers a version; returns when its workers are ready.

        A model's first version becomes its default, and so does the recorded default of a model
        that could not be restored, once their outputs have matched their certificate. If they do
        not match, the version is unregistered again. Raises NotPromoted then, and StoreError if the
        version was registered from another archive before.
        """
        self._check_signature(settings)
        release = self._current_release(name)
        on_server = self._on_server(name)
        first = release.default is None and not release.versions
        becomes_default = first or (version == release.default and default_of(on_server) is None)
        compared = ""
        with self._new(name, version, settings, release):
            if becomes_default:
                compared = self._prove(name, version, settings, say, change="registered")
        if becomes_default:
            self._engine.set_default(name, version)
        versions = dict(release.versions) | {version: settings}
        default = version if becomes_default else release.default
        release = evolved(release, versions, default, (*release.before, release.default))
        self._publish(name, noted(release, "registered", version, settings.digest, because))
        return Registration(versions=self._on_server(name), compared=compared)

    def promote(
        self,
        name: str,
        version: str,
        *,
        inspect: Callable[[Path], "MarInfo"],
        settings: Version | None = None,
        because: str | None = None,
        say: Say = lambda doing: None,
    ) -> Promotion:
        """Makes `version` the default once its outputs have matched its certificate.

        A version that is not registered is registered first, with `settings` or else from the
        model store, and unregistered again if its outputs do not match. Raises NotPromoted, and
        what registering raises; the default does not change then.
        """
        release = self._current_release(name)
        on_server = self._on_server(name)
        if version == default_of(on_server):
            return Promotion(previous=version, compared="")
        if new := version not in {one.version for one in on_server}:
            settings = settings or self._from_store(name, version, inspect, release)
            self._check_signature(settings)
            say(f"Starting the workers of {name} {version} …")
            with self._new(name, version, settings, release):
                compared = self._prove(name, version, settings, say)
        else:
            settings = release.versions[version]
            compared = self._prove(name, version, settings, say)
        self._engine.set_default(name, version)
        if new:
            versions = dict(release.versions) | {version: settings}
            release = evolved(release, versions, release.default, release.before)
            release = noted(release, "registered", version, settings.digest, because)
        previous, before = release.default, (*release.before, release.default)
        release = evolved(release, release.versions, version, before)
        self._publish(name, noted(release, "promoted", version, settings.digest, because))
        return Promotion(previous=None if previous == version else previous, compared=compared)

    def rollback(self, name: str, because: str | None = None) -> tuple[str, str | None]:
        """Makes the previous default the default again; returns both, the new one first.

        A second call goes further back, so two people who roll back at the same time do not undo
        each other's change. Raises NoFallback.
        """
        release = self._current_release(name)
        target, default = release.fallback, release.default
        if target is None:
            raise NoFallback(
                f"{name} has no earlier default version that is still registered. See its history "
                f"with `shipway releases {name}`, or promote a version from the model store with "
                f"`shipway promote {name} VERSION`."
            )
        ready = [
            one for one in self._on_server(name) if one.version == target and one.workers_ready
        ]
        if not ready:
            raise NoFallback(
                f"Cannot roll back to {name} {target}, the previous default version: none of its "
                f"workers is ready. Check them with `shipway describe {name}`."
            )
        self._engine.set_default(name, target)
        digest = release.versions[target].digest
        release = evolved(release, release.versions, target, release.before[:-1])
        self._publish(name, noted(release, "rolled back", target, digest, because))
        return target, default

    def scale(self, name: str, version: str, workers: int, because: str | None = None) -> None:
        """Gives a version more workers; returns when they are ready, or raises WorkersFailed."""
        release = self._current_release(name)
        self._engine.scale(name, version, workers)
        settings = release.versions[version].model_copy(update={"workers": workers})
        versions = dict(release.versions) | {version: settings}
        release = evolved(release, versions, release.default, release.before)
        self._publish(name, noted(release, "scaled", version, settings.digest, because))

    def unregister(self, name: str, version: str, because: str | None = None) -> bool:
        """Takes a version out of service once it has answered its requests.

        Returns False if some were still unanswered after DRAINED_WITHIN_S. A version that is
        recorded but not on the server is removed from the record.
        """
        release = self._current_release(name)
        on_server = {one.version for one in self._on_server(name)}
        drained = True
        if version in on_server or version not in release.versions:
            drained = self._engine.unregister(name, version, drain_within_s=DRAINED_WITHIN_S)
        default = None if version == release.default else release.default
        versions = dict(release.versions)
        digest = versions.pop(version).digest
        release = evolved(release, versions, default, release.before)
        self._publish(name, noted(release, "unregistered", version, digest, because))
        if not drained:
            self._warn(
                f"Some requests of {name} {version} were not answered within "
                f"{DRAINED_WITHIN_S:.0f} s. They are lost; send them again."
            )
        return drained

    def restore(self, say: Say) -> Iterator[tuple[str, str, ShipwayError | None]]:
        """Registers every recorded version that is not on the server.

        Yields name, version, and the error if it failed. Defaults come first, so that each model
        answers as soon as possible.
        """
        order = [
            (place, name, version)
            for name, release in self._releases.models.items()
            for place, version in enumerate(_by_importance(release))
        ]
        for _, name, version in sorted(order, key=lambda each: each[0]):
            error = None
            release = self._releases.models[name]
            if version not in {one.version for one in self._on_server(name)}:
                say(f"Restoring {name} {version} …")
                try:
                    check_archive(self.store, name, version, release.versions[version])
                    self._check_signature(release.versions[version])
                    self._register(name, version, release.versions[version])
                except ShipwayError as failure:
                    error = failure
                yield name, version, error
            if version == release.default:
                note_unrestored(self._state, name, str(error) if error else None)
                if error is None:
                    self._engine.set_default(name, version)
                else:
                    self._settle(name)
        for name in self._releases.models:
            self._settle(name)

    def _settle(self, name: str) -> None:
        settle(self._engine, self._state, name, self._releases.models.get(name, Release()))

    @contextmanager
    def _new(self, name: str, version: str, settings: Version, release: Release) -> Iterator[None]:
        """Registers a version, and unregisters it again if the block raises."""
        if version not in {one.version for one in self._on_server(name)}:
            check_same_archive(name, version, settings, release)
        try:
            self._register(name, version, settings)
            try:
                yield
            except BaseException:
                self._engine.unregister(name, version)
                raise
        except BaseException:
            with suppress(ServerError):  # the first error says more
                self._settle(name)
            raise

    def _on_server(self, name: str) -> list[ModelVersion]:
        return versions_on(self._engine, name)

    def _current_release(self, name: str) -> Release:
        """The release as it is on the server, with events for changes made without Shipway."""
        release = self._releases.models.get(name, Release())
        on_server = self._on_server(name)
        default = default_of(on_server) or release.default
        unnoted = {one.version for one in on_server} - release.versions.keys()
        if default and default != release.default:
            unnoted.add(default)
        versions = dict(release.versions) | {
            one.version: Version(
                mar=one.mar,
                digest=self._digest_of(one, release.versions.get(one.version)),
                batch_size=one.batch_size,
                max_batch_delay_ms=one.max_batch_delay_ms,
                workers=one.workers,
            )
            for one in on_server
        }
        before: tuple[str | None, ...] = release.before
        if default != release.default:
            before = defaults_before(release, default)
        release = evolved(release, versions, default, before)
        for version in sorted(unnoted, key=natural_order):
            release = noted(release, "found", version, versions[version].digest, None)
        return release

    def _digest_of(self, one: ModelVersion, known: Version | None) -> str:
        if known:
            return known.digest
        try:
            return sha256_of(self.store / one.mar)
        except ArtifactError as error:
            raise StoreError(
                f"{one.name} {one.version} was registered without Shipway, from {one.mar}, which "
                f"is not in the model store ({error}). Shipway could not restore it after a "
                "restart. Unregister it with TorchServe's management API first."
            ) from error

    def _publish(self, name: str, release: Release) -> None:
        models = dict(self._releases.models) | {name: release}
        self._releases = self._releases.model_copy(update={"models": models})
        write_releases(self._state, self._releases)
        self._settle(name)

    def _check_signature(self, settings: Version) -> None:
        # The copy in the store is the one that is served.
        remark = check_signature(
            self.store / settings.mar,
            self._policy.trusted_keys,
            required=self._policy.required,
        )
        if remark:
            self._warn(remark)

    def _register(self, name: str, version: str, settings: Version) -> None:
        self._engine.register(
            Deployable(
                name=name,
                version=version,
                archive=self.store / settings.mar,
                batch_size=settings.batch_size,
                max_batch_delay_ms=settings.max_batch_delay_ms,
                workers=settings.workers,
            )
        )

    def _prove(
        self, name: str, version: str, settings: Version, say: Say, change: str = "promoted"
    ) -> str:
        say(f"Comparing the answers of {name} {version} with its certificate …")
        return prove(self._engine, self._state, name, version, settings, change=change)

    def _from_store(
        self,
        name: str,
        version: str,
        inspect: Callable[[Path], "MarInfo"],
        release: Release,
    ) -> Version:
        path = self.store / f"{name}-{version}.mar"
        if not path.exists():
            registered = ", ".join(one.version for one in self._on_server(name)) or "none"
            raise VersionNotFound(
                f"{name} {version} is not registered (registered versions: {registered}), and "
                f"{path} does not exist. Create the archive with `shipway package ARTIFACT`."
            )
        return version_of(inspect(path), self.store, recorded=release.versions.get(version))


def _by_importance(release: Release) -> list[str]:
    """The default, what a rollback would lead to, and the others."""
    others = sorted(release.versions, key=natural_order)
    settings = (release.default, *reversed(release.before), *others)
    return list(dict.fromkeys(each for each in settings if each and each in release.versions))
