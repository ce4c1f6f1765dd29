"""The files in which a worker keeps its numbers, and their further use when it is gone.

prometheus-client has a file for each process and kind of metric, named KIND_PID.db, and adds up
those of all processes. A new worker goes on with the files of one that is gone, so that there are
no more of them than workers have run at the same time, however often one was started.
"""

import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from shipway.processes import runs

SUMMED = {"histogram": 2**18, "counter": 2**16}
"""The kinds that are added up, and the bytes for which each file has room at first: more than a
version's numbers come to, since no client can make new labels."""
GAUGES, GAUGES_BYTES = "gauge_livemax", 2**16
"""The kind of which nothing is shown when its process is gone."""
EXEMPLARS = "exemplars"
LABELS_BYTES = 1024
"""At the beginning of a file of exemplars: the labels that all of them have, as JSON."""
MOST_USED_BYTES = 2**20
"""Of a file that another worker goes on with, which reads all of it: some 3,000 numbers."""
LOCK = "lock"
LOCKED_WITHIN_S = 1.0
"""The exporter reads all files in some hundredths of a second. One that hangs holds up no start."""
_USED = struct.Struct("i")
"""How prometheus-client's files begin: with the number of bytes that are used."""


def exemplars_file(directory: Path, pid: int) -> Path:
    """The exemplars of a process."""
    return directory / f"{EXEMPLARS}_{pid}.bin"


@contextmanager
def locked(directory: Path) -> Iterator[bool]:
    """Keeps others from renaming files, or from reading them meanwhile. False if it is not possible
    within LOCKED_WITHIN_S. Raises OSError."""
    lock = FileLock(directory / LOCK, timeout=LOCKED_WITHIN_S, poll_interval=0.01)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def take_files(directory: Path, labels: Mapping[str, str], exemplars_bytes: int) -> None:
    """Makes this process's files, or takes those of a process that is gone; of one that had the
    same labels, if possible. `exemplars_bytes` is the size of a file of exemplars.

    All of them have their room on the disk: they will be mapped, and a write to a page for which a
    full disk has no room would end the process. Raises OSError where there is no room.
    """
    own = os.getpid()
    with locked(directory) as alone:
        left = _left(directory, labels) if alone else None
        for kind, size in SUMMED.items():
            path = directory / f"{kind}_{own}.db"
            if left is not None:
                _take(directory / f"{kind}_{left}.db", path)
            _reserve(path, size)
        if left is not None:
            (directory / f"{GAUGES}_{left}.db").unlink(missing_ok=True)
            before = exemplars_file(directory, left)
            if _labels_of(before) == labels:
                before.replace(exemplars_file(directory, own))
            else:
                before.unlink(missing_ok=True)
        _reserve(directory / f"{GAUGES}_{own}.db", GAUGES_BYTES)
        _reserve(exemplars_file(directory, own), exemplars_bytes)


def _left(directory: Path, labels: Mapping[str, str]) -> int | None:
    """The process that is gone whose files are to be taken. Whoever had this one's id is gone."""
    own = os.getpid()
    pids = {int(path.stem.rpartition("_")[2]) for path in directory.glob("*_*.*")}
    gone = sorted(pid for pid in pids if pid == own or not runs(pid))
    if own in gone:
        return own
    usable = [pid for pid in gone if any(directory.glob(f"*_{pid}.db"))]
    same = [pid for pid in usable if _labels_of(exemplars_file(directory, pid)) == labels]
    return next(iter(same or usable), None)


def _labels_of(exemplars: Path) -> Mapping[str, str] | None:
    with suppress(OSError, ValueError), exemplars.open("rb") as file:
        found = json.loads(file.read(LABELS_BYTES).rstrip(b"\0"))
        return found if isinstance(found, dict) else None
    return None


def _take(left: Path, path: Path) -> None:
    """Gives a file its new name, unless there is none or it has grown too long."""
    if left.exists() and _used_bytes(left) <= MOST_USED_BYTES:
        left.replace(path)


def _reserve(path: Path, size: int) -> None:
    """Makes a file of zeros, or enlarges one to twice of what it uses. Raises OSError, and leaves
    no new file."""
    new = not path.exists()
    used = 0 if new or path.suffix != ".db" else _used_bytes(path)
    with path.open("ab") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, max(size, 2 * used))
        except OSError:
            if new:
                path.unlink()
            raise


def _used_bytes(path: Path) -> int:
    """0 of an empty file, which a process leaves that is killed just after it made it."""
    with path.open("rb") as file:
        head = file.read(_USED.size)
    return int(_USED.unpack(head)[0]) if len(head) == _USED.size else 0
