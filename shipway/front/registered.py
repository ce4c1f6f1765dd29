"""What the front is made from: the default versions, and the workers that answer HTTP."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Announced:
    """A worker that answers HTTP on a unix socket of its own."""

    name: str
    version: str
    pid: int
    socket: str
    answer_within_s: float
    """After this time without progress it hangs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What is served at a moment."""

    workers: tuple[Announced, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    """The default version of each model that has one."""
    withdrawn: frozenset[tuple[str, str]] = frozenset()
    """Versions, by name and version, that get no more requests, from nobody."""
    with_tokens: bool = False
    """Whether requests need a token."""
    token: str | None = None
    """The inference token that TorchServe takes now; None if it takes requests without one."""
    tokens: tuple[str, ...] = ()
    """All that clients may use."""

    def sockets(self) -> dict[tuple[str, str], list[str]]:
        """The sockets of each version that has workers, by name and version."""
        found: dict[tuple[str, str], list[str]] = {}
        for worker in sorted(self.workers):
            if (worker.name, worker.version) in self.withdrawn:
                continue
            found.setdefault((worker.name, worker.version), []).append(worker.socket)
        return found


def announced_in(folder: Path) -> tuple[Announced, ...]:
    """The workers that have announced themselves in a folder and still run.

    What dead ones left there is removed.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            said = json.loads(path.read_bytes())
            worker = Announced(**{name: said[name] for name in Announced.__dataclass_fields__})
        except (OSError, ValueError, KeyError):  # it is being removed
            continue
        if runs(worker.pid):
            found.append(worker)
        else:
            _remove((path, Path(worker.socket), progress_file(worker)))
    return tuple(found)


def progress_file(worker: Announced) -> Path:
    """Where a worker says how far it is."""
    return Path(worker.socket).with_suffix(".progress")


def runs(pid: int) -> bool:
    """Whether a process runs; not so of one that has ended and was not waited for."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except OSError:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return not Path("/proc/self/stat").exists()
    return state not in (b"Z", b"X")


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
