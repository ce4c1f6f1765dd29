"""Waiting until a server has answered what it was asked.

TorchServe itself does not: told to end, it resets the connections of requests in flight; told to
unregister a version, it leaves those who wait for it without an answer.
"""

import re
import time
from contextlib import closing

import httpx

from shipway.engines.errors import ServerError
from shipway.engines.state import ServerRecord, StateDirectory
from shipway.engines.torchserve.management import ManagementClient

PAUSE_S = 0.1


def until_quiet(state: StateDirectory, within_s: float) -> bool:
    """Waits until all is answered and nobody asks any more, False if that takes longer.

    A server that does not answer has nothing to wait for.
    """
    deadline = time.monotonic() + within_s
    try:
        record = state.require_running()
        with closing(ManagementClient(state)) as management:
            asked = _requests_so_far(record)
            while time.monotonic() < deadline:
                for one in management.models():
                    left_s = deadline - time.monotonic()
                    if not management.await_answers(one, within_s=left_s):
                        return False
                before, asked = asked, _requests_so_far(record)
                if asked == before:
                    return True
                time.sleep(PAUSE_S)
    except (ServerError, httpx.HTTPError, OSError, ValueError):
        return True
    return False


def _requests_so_far(record: ServerRecord) -> float:
    """How many predictions were asked for since the start; 0 where TorchServe does not count."""
    answer = httpx.get(
        f"{record.addresses.metrics}/metrics",
        params={"name[]": "ts_inference_requests_total"},
        verify=record.trust,
        trust_env=False,
    )
    counts = re.findall(r"^ts_inference_requests_total\{.*\} (\S+)$", answer.text, re.MULTILINE)
    return sum(map(float, counts))
