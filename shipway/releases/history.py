"""`releases.json`: which versions should be served, which is the default, and the history of both.

The file is in the state directory and outlives the server: with it and the model store,
`shipway serve` brings back what was served. It is written whole, by a rename, after the server has
made a change, and by one process at a time.
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
"""`found`: by this tool on the server, where somebody had done it by other means."""


class Version(Record):
    """A version that should be registered, and how."""

    mar: str
    """Its archive, a file in the model store."""
    digest: Sha256
    """Of the archive."""
    batch_size: Positive
    max_batch_delay_ms: Annotated[int, Field(ge=0)]
    workers: Annotated[int, Field(ge=0)]


class Event(Record):
    """Something that was done to a model."""

    at: str
    """ISO 8601, UTC."""
    what: What
    version: str
    digest: Sha256
    default: str | None
    """The version that answered requests that name none, from then on."""
    by: str
    """USER@HOST."""
    because: str | None = None


class Release(Record):
    """What should be served of one model, and its history."""

    versions: Mapping[str, Version] = {}
    default: str | None = None
    """Answers requests that name no version; None if no version is left."""
    before: tuple[str, ...] = ()
    """The defaults before this one that are still registered; the last is the fallback."""
    history: tuple[Event, ...] = ()
    """The oldest first."""

    @property
    def fallback(self) -> str | None:
        """Where a rollback leads."""
        return self.before[-1] if self.before else None


class Releases(Record):
    """What should be served, of every model; the content of the file."""

    format: Literal[1] = FORMAT
    models: Mapping[str, Release] = {}


def read_releases(state: StateDirectory) -> Releases:
    """What should be served; nothing where nothing ever was. Raises ReleasesError."""
    path = state.releases_file
    advice = (
        "Nothing was changed. Put back a copy of it, or start with `shipway serve --fresh`, which "
        "sets it aside."
    )
    try:
        found = json.loads(path.read_bytes())["format"]
        if found != FORMAT:
            raise ReleasesError(f"{path} has format {found}; this build reads {FORMAT}. {advice}")
        return read_record(path, Releases)
    except FileNotFoundError:
        return Releases()
    except InvalidManifest as error:
        raise ReleasesError(f"{error}. {advice}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleasesError(f"{path} does not read: {error!r}. {advice}") from error


def write_releases(state: StateDirectory, releases: Releases) -> None:
    """Publishes the file whole; it is on the disk when this returns. Raises ReleasesError."""
    path = state.releases_file
    try:
        atomic_write(path, record_text(releases), durable=True)
    except OSError as error:
        raise ReleasesError(
            f"{path} cannot be written: {error}. The server has the change, the file has not; the "
            "next change that succeeds notes both."
        ) from error


def set_aside(state: StateDirectory) -> str | None:
    """Gives the file another name, which is returned; None if there is none."""
    aside = state.releases_file.with_name(f"releases-until-{now().replace(':', '')}.json")
    try:
        state.releases_file.rename(aside)
    except FileNotFoundError:
        return None
    return str(aside)


@contextmanager
def exclusively(state: StateDirectory, doing: str) -> Iterator[None]:
    """Lets one process at a time change what is served; raises ChangeUnderWay to the others, and
    ReleasesError where what is changed could not be noted.

    The lock is the kernel's: it ends with the process, however that ends.
    """
    state.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = _locked(state.releases_lock)
    try:
        try:
            # In place: another file of that name would be another lock.
            state.releases_lock.write_text(f"{whoami()} is {doing} since {now()}")
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
    """The lock, held by this process. Raises ChangeUnderWay, naming the holder."""
    lock = FileLock(path)
    for _ in range(LOCK_ATTEMPTS):
        try:
            lock.acquire(blocking=False)
            return lock
        except Timeout:
            if holder := path.read_text():
                break
        # The holder is about to write who it is, or to release the lock.
        time.sleep(LOCK_PAUSE_S)
    else:
        holder = "Another process is changing what is served"
    raise ChangeUnderWay(f"{holder}. Nothing was changed; try again after that.")


def now() -> str:
    """ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def whoami() -> str:
    """USER@HOST."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def evolved(
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


def noted(release: Release, what: What, version: str, digest: str, because: str | None) -> Release:
    """The release with one more event, which happens now, at the end of its history."""
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
