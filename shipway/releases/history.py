"""`releases.json`: which versions should be served, which is the default, and the history of both.

The file is in the state directory and outlives the server: from it and the model store,
`shipway serve` restores the versions that were served. One process at a time replaces it as a
whole, after the server has made the change.
"""

import getpass
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from filelock import FileLock, Timeout
from pydantic import Field

from shipway.artifact.bundle import read_record, record_text
from shipway.artifact.errors import InvalidManifest
from shipway.engines.state import StateDirectory
from shipway.files import atomic_write
from shipway.recipe import Positive, Record, Sha256
from shipway.releases.errors import ChangeUnderWay, ReleasesError

FORMAT: Literal[1] = 1

LOCK_ATTEMPTS = 20
LOCK_PAUSE_S = 0.05

What = Literal["registered", "promoted", "rolled back", "scaled", "unregistered", "found"]
"""`found` is a change that somebody made on the server without Shipway."""


class Version(Record):
    """A version that should be registered, and its settings."""

    mar: str
    """The file name of its archive in the model store."""
    digest: Sha256
    """The archive's SHA-256."""
    batch_size: Positive
    max_batch_delay_ms: Annotated[int, Field(ge=0)]
    workers: Annotated[int, Field(ge=0)]


class Event(Record):
    """A change to the versions of a model."""

    at: str
    """ISO 8601, UTC."""
    what: What
    version: str
    digest: Sha256
    default: str | None
    """The default version after the change; None if there is none."""
    by: str
    """USER@HOST."""
    because: str | None = None


class Release(Record):
    """The versions of one model that should be served, and its history."""

    versions: Mapping[str, Version] = {}
    default: str | None = None
    """The version that answers requests that name none. If it cannot be restored, no other does.
    None if no version is left, or if it was unregistered without being restored."""
    before: tuple[str, ...] = ()
    """Earlier defaults that are still registered. The last is the fallback."""
    history: tuple[Event, ...] = ()
    """Oldest first."""

    @property
    def fallback(self) -> str | None:
        """The version that a rollback makes the default; None if there is none."""
        return self.before[-1] if self.before else None


class Releases(Record):
    """What should be served of every model: the content of the file."""

    format: Literal[1] = FORMAT
    models: Mapping[str, Release] = {}


def read_releases(state: StateDirectory) -> Releases:
    """Reads what should be served; empty if there is no file yet. Raises ReleasesError."""
    path = state.releases_file
    advice = (
        "Nothing was changed. Restore the file from a copy, or start with `shipway serve --fresh`, "
        "which renames it and starts a new file."
    )
    try:
        number = json.loads(path.read_bytes())["format"]
        if number != FORMAT:
            raise ReleasesError(f"{path} has format {number}; this build reads {FORMAT}. {advice}")
        return read_record(path, Releases)
    except FileNotFoundError:
        return Releases()
    except InvalidManifest as error:
        raise ReleasesError(f"{error}. {advice}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleasesError(f"{path} cannot be read: {error!r}. {advice}") from error


def recorded_version(state: StateDirectory, name: str, version: str) -> Version | None:
    """A version that should be registered; None if it is not recorded. Raises ReleasesError."""
    return read_releases(state).models.get(name, Release()).versions.get(version)


def write_releases(state: StateDirectory, releases: Releases) -> None:
    """Replaces the file; it is on the disk when this returns. Raises ReleasesError."""
    path = state.releases_file
    try:
        atomic_write(path, record_text(releases), durable=True)
    except OSError as error:
        raise ReleasesError(
            f"{path} cannot be written: {error}. The server has made the change, but it is not "
            "recorded. The next successful change records both."
        ) from error


def set_aside(state: StateDirectory) -> str | None:
    """Renames the file and returns its new path; None if there is no file."""
    aside = state.releases_file.with_name(f"releases-until-{now().replace(':', '')}.json")
    try:
        state.releases_file.rename(aside)
    except FileNotFoundError:
        return None
    return str(aside)


@contextmanager
def exclusively(state: StateDirectory, doing: str) -> Iterator[None]:
    """Holds the lock that lets one process at a time change what is served.

    `doing` completes "USER@HOST is …" in the message to other processes. Raises ChangeUnderWay if
    another process holds the lock, and ReleasesError if the state directory cannot be written. The
    kernel releases the lock when the process ends, even if it is killed.
    """
    state.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = _locked(state.releases_lock)
    try:
        try:
            # Written in place: a new file of that name would be a different lock.
            state.releases_lock.write_text(f"{whoami()} has been {doing} since {now()}")
        except OSError as error:
            raise ReleasesError(
                f"{state.releases_lock} cannot be written: {error}. Nothing was changed."
            ) from error
        yield
    finally:
        with suppress(OSError):
            os.truncate(state.releases_lock, 0)
        lock.release()


def _locked(path: Path) -> FileLock:
    """Takes the lock. Raises ChangeUnderWay with the name of the holder."""
    lock = FileLock(path)
    for _ in range(LOCK_ATTEMPTS):
        try:
            lock.acquire(blocking=False)
            return lock
        except Timeout:
            if holder := path.read_text():
                break
        # The holder is about to write its name, or to release the lock.
        time.sleep(LOCK_PAUSE_S)
    else:
        holder = "Another process is changing the served models"
    raise ChangeUnderWay(f"{holder}. Nothing was changed. Try again when it has finished.")


def now() -> str:
    """The current time in ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def whoami() -> str:
    """The user who runs this process, as USER@HOST."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def defaults_before(release: Release, default: str | None) -> tuple[str | None, ...]:
    """The earlier defaults if somebody made `default` the default without Shipway.

    One of the earlier defaults counts as a rollback to it, so that the next one goes further back.
    """
    if default in release.before:
        return release.before[: release.before.index(default)]
    return (*release.before, release.default)


def evolved(
    release: Release,
    versions: Mapping[str, Version],
    default: str | None,
    before: Iterable[str | None],
) -> Release:
    """The release with new versions and defaults. Only registered earlier defaults are kept."""
    kept = [version for version in before if version in versions and version != default]
    unique = tuple(reversed(dict.fromkeys(reversed(kept))))  # the last occurrence of each
    return release.model_copy(update={"versions": versions, "default": default, "before": unique})


def noted(release: Release, what: What, version: str, digest: str, because: str | None) -> Release:
    """The release with one more event, dated now, at the end of its history."""
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
