"""Finds in the log that TorchServe writes for all workers why a worker ended."""

import re
import time
from pathlib import Path

WRITTEN_WITHIN_S = 5.0
POLL_S = 0.3


class WorkerLog:
    """The part of the log that is written from now on."""

    def __init__(self, path: Path) -> None:
        """Remembers the current end of the log at `path`."""
        self.path = path
        self._start = path.stat().st_size if path.exists() else 0

    def failure_reason(self, name: str, version: str) -> str | None:
        """Why a worker of this version ended. None if it left no traceback."""
        # On a busy machine, its lines reach the log after the process has ended.
        deadline = time.monotonic() + WRITTEN_WITHIN_S
        while True:
            reason = failure_reason(_read_from(self.path, self._start), name, version)
            if reason or time.monotonic() > deadline:
                return reason
            time.sleep(POLL_S)


def failure_reason(log: str, name: str, version: str) -> str | None:
    """The exception that ended the workers of a version, from their lines in the log.

    None if there is no traceback.
    """
    of_this_version = re.compile(
        rf"\S+ \[\w+ *\] W-\d+-{re.escape(f'{name}_{version}')}-std(?:out|err) MODEL_LOG - (.*)"
    )
    lines = [match[1] for line in log.splitlines() if (match := of_this_version.match(line))]
    reason = None
    in_traceback = False
    for line in lines:
        if line.startswith("Traceback (most recent call last):"):
            in_traceback = True
        elif in_traceback and line and not line[0].isspace():
            in_traceback = False
            # TorchServe raises this one in place of the handler's own exception.
            if not re.match(r"RuntimeError: \d{3} - ", line):
                reason = re.sub(r"^(?:\w+\.)+(?=\w+(?::|$))", "", line)
    return reason


def _read_from(log: Path, start: int) -> str:
    try:
        content = log.read_bytes()
    except FileNotFoundError:
        return ""
    # The file is shorter after a rollover.
    return (content[start:] if len(content) >= start else content).decode(errors="replace")
