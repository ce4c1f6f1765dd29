"""What the front and the commands that change a server say to each other, in files.

The front says what it serves. A command says which versions should get no more requests, before
their workers end.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shipway.files import atomic_write
from shipway.front.kept import KeptFiles

FOLDER = "front"
"""In the server's temporary folder."""
FOLLOWS_WITHIN_S = 3.0
"""How long the front may take to follow a change. After that its files are taken as they are: a
front that does not run sends requests nowhere."""
LOOK_EVERY_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Where the front sends requests now."""

    defaults: Mapping[str, str] = field(default_factory=dict)
    """The version that answers requests without a version, of each model that has one."""
    versions: frozenset[tuple[str, str]] = frozenset()
    """The versions whose workers get requests directly, by name and version."""
    failing: frozenset[tuple[str, str]] = frozenset()
    """The versions that are out of service, since their workers died too often."""


class Exchange:
    """The files of one front."""

    def __init__(self, folder: Path) -> None:
        self._kept = KeptFiles(folder)
        self._served = folder / "served.json"
        self._withdrawn = folder / "withdrawn"
        self._hurry = folder / "hurry"

    @property
    def exists(self) -> bool:
        """Whether there is a front that has started."""
        return self._served.exists()

    # The front's side ----------------------------------------------------------------------------

    def write_served(self, served: Served) -> None:
        """Says where requests are sent from now on."""
        self._withdrawn.mkdir(exist_ok=True)
        said = {
            "defaults": dict(served.defaults),
            "versions": sorted(map(list, served.versions)),
            "failing": sorted(map(list, served.failing)),
        }
        self._kept.write(self._served.name, json.dumps(said))

    def restore(self) -> list[str]:
        """Says it again if somebody else has changed or deleted the file; returns its name."""
        return self._kept.restore()

    def withdrawn(self) -> frozenset[tuple[str, str]]:
        """The versions that should get no more requests."""
        found = set()
        for path in self._withdrawn.glob("*.json"):
            try:
                name, version = json.loads(path.read_bytes())
            except (OSError, ValueError, TypeError):  # it is being removed, or damaged
                continue
            found.add((name, version))
        return frozenset(found)

    def is_in_a_hurry(self) -> bool:
        """Whether a command waits for the front to follow."""
        return self._hurry.exists()

    # The side of a command -----------------------------------------------------------------------

    def read_served(self) -> Served:
        """Where requests are sent now."""
        try:
            said = json.loads(self._served.read_bytes())
            return Served(
                defaults=dict(said["defaults"]),
                versions=frozenset((name, version) for name, version in said["versions"]),
                failing=frozenset((name, version) for name, version in said["failing"]),
            )
        except (OSError, ValueError, LookupError, TypeError):  # the front writes it again
            return Served()

    def await_default(self, name: str, version: str) -> None:
        """Returns when the front sends requests without a version to this one."""
        self._await(lambda served: served.defaults.get(name) == version)

    @contextmanager
    def withdraw(self, name: str, version: str) -> Iterator[None]:
        """Within the context the version gets no more requests from the front. Requests that its
        workers have already are not affected."""
        if not self.exists:
            yield
            return
        digest = hashlib.sha256(json.dumps([name, version]).encode()).hexdigest()
        path = self._withdrawn / f"{digest}.json"
        atomic_write(path, json.dumps([name, version]))
        try:
            self._await(lambda served: (name, version) not in served.versions)
            yield
        finally:
            path.unlink(missing_ok=True)

    def _await(self, holds: Callable[[Served], bool]) -> None:
        if not self.exists:
            return
        deadline = time.monotonic() + FOLLOWS_WITHIN_S
        self._hurry.touch()
        try:
            while not holds(self.read_served()) and time.monotonic() < deadline:
                time.sleep(LOOK_EVERY_S)
        finally:
            self._hurry.unlink(missing_ok=True)
