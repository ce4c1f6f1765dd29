"""What the front is made from: the default versions, and the workers that answer HTTP."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from shipway.front.keys import Key
from shipway.processes import runs

DEATHS_WITHIN_S = 60.0
MOST_DEATHS = 4
"""For each worker of a version within DEATHS_WITHIN_S. With more, it is out of service for a while:
whatever kills its workers would go on taking the machine's time."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Announced:
    """A worker that answers HTTP on a unix socket of its own."""

    name: str
    version: str
    pid: int
    began: int
    """When that process began, by `shipway.processes.began`: ids of processes are used again."""
    starter: int
    """The process that forks another worker in its place when it dies, at the same socket; the
    worker itself if there is none."""
    starter_began: int
    socket: str
    answer_within_s: float
    """After this time without progress it hangs."""
    replaced: bool = False
    """Whether it has died, and its starter is forking another."""
    dumps: bool = False
    """Whether it writes where its threads are when it gets DUMP_SIGNAL. Workers of older archives,
    which carry older code, do not say so."""


ANNOUNCED = tuple(each.name for each in fields(Announced) if each.name not in ("replaced", "dumps"))
"""What each worker says of itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What is served at a moment."""

    workers: tuple[Announced, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    """The default version of each model that has one."""
    withdrawn: frozenset[tuple[str, str]] = frozenset()
    """Versions, by name and version, that get no more requests, from nobody."""
    failing: frozenset[tuple[str, str]] = frozenset()
    """Versions whose workers die too often to get requests."""
    idle: bool = False
    """Whether every model is scaled to no worker."""
    with_tokens: bool = False
    """Whether requests need a token."""
    token: str | None = None
    """The inference token that TorchServe takes now; None if it takes requests without one."""
    tokens: tuple[str, ...] = ()
    """All that clients may use."""
    keys: tuple[Key, ...] = ()
    """Of named clients, beside the tokens."""

    def sockets(self) -> dict[tuple[str, str], list[str]]:
        """The sockets of each version that has workers, by name and version.

        Requests wait for workers that are being replaced if there are no others.
        """
        found: dict[tuple[str, str], list[str]] = {}
        for worker in sorted(self.workers, key=lambda worker: (worker.replaced, worker)):
            version = worker.name, worker.version
            if version in self.withdrawn | self.failing or (worker.replaced and version in found):
                continue
            found.setdefault(version, []).append(worker.socket)
        return found


def announced_in(folder: Path) -> tuple[Announced, ...]:
    """The workers that have announced themselves in a folder and still run or are being replaced.

    What others left there is removed.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            said = json.loads(path.read_bytes())
            worker = Announced(
                **{name: said[name] for name in ANNOUNCED}, dumps=bool(said.get("dumps"))
            )
        except (OSError, ValueError, LookupError, TypeError):  # it is being removed, or damaged
            continue
        if runs(worker.pid, worker.began):
            found.append(worker)
        elif runs(worker.starter, worker.starter_began):
            found.append(replace(worker, replaced=True))
        else:
            own = folder / f"torchserve.{worker.starter}"  # of its starter and its worker
            _remove((path, Path(worker.socket), progress_file(worker), own))
    return tuple(found)


def failing_in(folder: Path, workers: Iterable[Announced]) -> frozenset[tuple[str, str]]:
    """The versions of whose `workers` each died more than MOST_DEATHS times within DEATHS_WITHIN_S,
    on average, from what their starters say in a folder. What dead starters left there is removed.
    """
    there = Counter((worker.name, worker.version) for worker in workers)
    since = time.monotonic() - DEATHS_WITHIN_S
    deaths: Counter[tuple[str, str]] = Counter()
    for path in folder.glob("*.deaths"):
        try:
            said = json.loads(path.read_bytes())
            starter, version = said["pid"], (said["name"], said["version"])
            died = sum(moment > since for moment in said["deaths"])
        except (OSError, ValueError, LookupError, TypeError):  # it is being removed, or damaged
            continue
        if runs(starter):
            deaths[version] += died
        else:
            path.unlink(missing_ok=True)
    return frozenset(
        version for version, died in deaths.items() if died > MOST_DEATHS * max(1, there[version])
    )


def progress_file(worker: Announced) -> Path:
    """Where a worker says how far it is."""
    return Path(worker.socket).with_suffix(".progress")


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
