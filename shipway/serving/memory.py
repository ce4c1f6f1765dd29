"""Memory that a large request needed goes back to the system with its answer."""

import ctypes
import os
import platform
import sys
import time
from pathlib import Path

# mallopt(3)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
LARGE_BYTES = 8 * 2**20
"""Blocks of at least so many bytes are of their own. Pillow allocates pictures in blocks of 16 MiB;
what usual requests need is smaller, and is kept for the next one."""
TRIM_ABOVE_BYTES = 64 * 2**20
"""How much an idle process may have above what it needed before."""
TRIM_AGAIN_AFTER_S = 10.0
"""Before another attempt that may be in vain: the memory may be needed by now."""
_STATM = Path("/proc/self/statm")


def return_large_blocks() -> bool:
    """Makes the C library give blocks of LARGE_BYTES back as soon as they are freed. False where it
    is not glibc.

    By default glibc raises that bound to 32 MiB once such a block is freed, and each thread keeps
    what it has freed: a worker that decoded some large pictures had a gigabyte more for good.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)) and bool(
        mallopt(_M_TRIM_THRESHOLD, 2 * LARGE_BYTES)
    )


class FreeMemory:
    """Gives freed memory back to the system. By itself glibc returns what is free at the end of an
    arena only, and a block that is in use there keeps all that is free before it: the bodies of
    many large requests left a worker half a gigabyte larger for good."""

    def __init__(self) -> None:
        is_possible = platform.libc_ver()[0] == "glibc" and _STATM.exists()
        self._trim = ctypes.CDLL(None).malloc_trim if is_possible else None
        self._least = self._left = sys.maxsize
        """The least that the process ever had, and what the last attempt left."""
        self._again_at = 0.0

    def look(self) -> None:
        """To be called now and then while there is nothing to answer: to look through the memory
        stops everything for a moment. Takes some 10 µs if there is nothing to do."""
        if self._trim is None:
            return
        now = _resident_bytes()
        self._least = min(self._least, now)
        if now - self._least <= TRIM_ABOVE_BYTES:
            return
        if now - self._left > TRIM_ABOVE_BYTES or time.monotonic() > self._again_at:
            self._trim(0)
            self._left = _resident_bytes()
            self._again_at = time.monotonic() + TRIM_AGAIN_AFTER_S


def _resident_bytes() -> int:
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
