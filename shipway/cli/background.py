"""Low CPU priority for commands that change a running server."""

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

NICE = 10
"""Where both need a core, a tenth of the share of a server process (sched(7): 110 to 1024)."""
PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


def step_aside() -> None:
    """Continues in a child process of low priority.

    The parent forwards signals to the child and exits with its exit code. The child has its own
    session, because Linux divides the cores among sessions first (sched(7), autogroup): in the
    session of its terminal the command would get as much as the whole server, at any priority.
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
    with suppress(OSError):  # the kernel has no autogroups, or divides by container
        Path("/proc/self/autogroup").write_text(str(NICE))
