"""Whether a process runs, and since when. Linux's own files are read, which takes a tenth of
psutil's time: the front asks fifty times a second."""

import os
from pathlib import Path

# Of /proc/PID/stat, counted from 0 after the name of the program (proc(5): the 3rd and 22nd).
STATE, STARTTIME = 0, 19


def began(pid: int) -> int:
    """When a process began, in the system's clock ticks since it was booted; 0 if it does not say,
    which is so of processes that have ended, and of systems other than Linux."""
    try:
        return int(_stat(pid)[STARTTIME])
    except (OSError, IndexError):
        return 0


def runs(pid: int, since: int | None = None) -> bool:
    """Whether a process runs; not so of one that has ended and was not waited for.

    With `since`, what `began` said of it, another process that got its id is told from it.
    """
    try:
        found = _stat(pid)
    except OSError:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return not Path("/proc/self/stat").exists()
    return found[STATE] not in (b"Z", b"X") and since in (None, int(found[STARTTIME]))


def _stat(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
