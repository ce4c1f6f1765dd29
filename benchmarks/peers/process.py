"""A server as a command: started, waited for, and ended with all that it started."""

import http.client
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil

from benchmarks.peers.errors import PeerFailed
from shipway.engines.torchserve.temporary import ServedModel

READY_WITHIN_S = 60.0
END_WITHIN_S = 20.0
LAST_WORDS = 400
"""Characters of a log that tell why its server ended."""


@contextmanager
def running(
    command: Sequence[str], url: str, folder: Path, environment: Mapping[str, str]
) -> Iterator[ServedModel]:
    """The server of `command`, which may not be ready yet; its log and its files in `folder`."""
    with (folder / "log").open("wb") as log:
        process = psutil.Popen(
            list(command),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # A session of its own: Ctrl-C in our terminal is ours to pass on, in order.
            start_new_session=True,
        )
    try:
        yield ServedModel(url=url, headers={}, process=process.pid)
    except PeerFailed as failed:
        said = tail((folder / "log").read_text(errors="replace"))
        raise PeerFailed(f"{failed}; its log ends: {said}") from failed
    finally:
        end(process)


def tail(text: str) -> str:
    """The end of a text, on one line and without its colours."""
    return " ".join(re.sub(r"\x1b\[[\d;]*m", "", text).split())[-LAST_WORDS:]


def end(process: psutil.Process) -> None:
    """SIGTERM to the server, SIGKILL to what is left of it and of its children after a while."""
    family = _family(process)
    with suppress(psutil.NoSuchProcess):
        process.terminate()
    psutil.wait_procs(family, END_WITHIN_S)
    left = [each for each in {*family, *_family(process)} if each.is_running()]
    for each in left:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(left, END_WITHIN_S)


def _family(process: psutil.Process) -> list[psutil.Process]:
    """The server, its children and theirs, and whoever is left in its session without parents."""
    found = {process}
    with suppress(psutil.NoSuchProcess):
        found.update(process.children(recursive=True))
    for each in psutil.process_iter():
        with suppress(OSError):
            if os.getsid(each.pid) == process.pid:
                found.add(each)
    return list(found)


def answer_of(served: ServedModel, body: bytes, headers: Mapping[str, str]) -> bytes:
    """What a server answers once it is ready. Raises PeerFailed if it ends or never is ready."""
    deadline = time.monotonic() + READY_WITHIN_S
    last = "no answer"
    with httpx.Client(timeout=READY_WITHIN_S, trust_env=False) as client:
        while time.monotonic() < deadline:
            if not _alive(served.process):
                raise PeerFailed("it ended before it was ready")
            try:
                reply = client.post(served.url, content=body, headers=dict(headers))
                if reply.status_code == http.client.OK:
                    return reply.content
                last = f"{reply.status_code} {reply.text[:LAST_WORDS]}"
            except httpx.HTTPError as error:
                last = repr(error)
            time.sleep(0.2)
    raise PeerFailed(f"not ready within {READY_WITHIN_S:.0f} s: {last}")


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def check_answers(
    served: ServedModel,
    photos: Sequence[bytes],
    headers: Mapping[str, str],
    top_class: Callable[[bytes], int],
    expected: Sequence[int],
) -> None:
    """Waits until the server answers; raises PeerFailed if it puts other classes first."""
    found = [top_class(answer_of(served, photo, headers)) for photo in photos]
    if found != list(expected):
        raise PeerFailed(f"it answers classes {found}, the artifact {list(expected)}")
