"""Why a worker ended: what it left in the log that TorchServe writes for all workers."""

import re
import time
from pathlib import Path

WRITTEN_WITHIN_S = 5.0
LOOK_AGAIN_S = 0.3


class WorkerLog:
    """The log from a moment on: what workers that start after it leave there."""

    def __init__(self, path: Path) -> None:
        """Begins now."""
        self.path = path
        self._start = path.stat().st_size if path.exists() else 0

    def failure_reason(self, name: str, version: str) -> str | None:
        """Why a worker of this version ended. None if it left no traceback."""
        # On a busy machine its lines reach the log after its process is gone.
        deadline = time.monotonic() + WRITTEN_WITHIN_S
        while True:
            reason = failure_reason(_read_from(self.path, self._start), name, version)
            if reason or time.monotonic() > deadline:
                return reason
            time.sleep(LOOK_AGAIN_S)


def failure_reason(log: str, name: str, version: str) -> str | None:
    """The exception that ended the workers of a version, from the lines they left in the log."""
    of_this_version = re.compile(
        rf"\S+ \[\w+ *\] W-\d+-{re.escape(f'{name}_{version}')}-std(?:out|err) MODEL_LOG - (.*)"
    )
    said = [found[1] for line in log.splitlines() if (found := of_this_version.match(line))]
    reason = None
    in_traceback = False
    for line in said:
        if line.startswith("Traceback (most recent call last):"):
            in_traceback = True
        elif in_traceback and line and not line[0].isspace():
            in_traceback = False
            # TorchServe raises this one when it has swallowed the handler's own.
            if not re.match(r"RuntimeError: \d{3} - ", line):
                reason = re.sub(r"^(?:\w+\.)+(?=\w+(?::|$))", "", line)
    return reason


def _read_from(log: Path, start: int) -> str:
    try:
        content = log.read_bytes()
    except FileNotFoundError:
        return ""
    # A file that has shrunk has rolled over meanwhile.
    return (content[start:] if len(content) >= start else content).decode(errors="replace")
