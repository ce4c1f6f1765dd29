"""A command that changes a server leaves the cores to those who answer."""

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

NICE = 10
"""A tenth of what a process of the server gets where both want a core (sched(7): 110 to 1024)."""
PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


def step_aside() -> None:
    """Goes on in a process that yields; this one passes signals on, and ends as that one does.

    A process of its own, since Linux shares the cores among sessions first (sched(7), autogroup):
    in its terminal's session a command would get as much as the whole server, however nice it is.
    """
    if not sys.platform.startswith("linux"):
        return
    set_process_option = ctypes.CDLL(None).prctl
    sys.stdout.flush()
    child = os.fork()
    if child:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, lambda number, _: os.kill(child, number))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os._exit(code if code >= 0 else 128 - code)
    set_process_option(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    os.setsid()
    os.nice(NICE)
    with suppress(OSError):  # a kernel without, or one that cares for containers instead
        Path("/proc/self/autogroup").write_text(str(NICE))
