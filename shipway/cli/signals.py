"""Signals that end a command."""

import signal


def end_as_by_ctrl_c() -> None:
    """Makes SIGTERM and SIGHUP raise KeyboardInterrupt, so that cleanup runs as after Ctrl-C.

    A signal that the parent process set to be ignored stays ignored, as `nohup` expects.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
