"""Memory that a large request needed goes back to the system with its answer."""

import ctypes
import platform

# mallopt(3)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
LARGE_BYTES = 8 * 2**20
"""Blocks of at least so many bytes are of their own. Pillow allocates pictures in blocks of 16 MiB;
what usual requests need is smaller, and is kept for the next one."""


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
