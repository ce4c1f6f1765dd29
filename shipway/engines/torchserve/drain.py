"""Waits until a server has answered its requests.

TorchServe itself does not wait: when it ends, it resets the connections of requests in flight, and
when it unregisters a version, it never answers the requests that wait for it.
"""

import re
import time
from contextlib import closing
from pathlib import Path

import httpx

from shipway.engines.errors import ServerError
from shipway.engines.state import ServerRecord, StateDirectory
from shipway.engines.torchserve.management import ManagementClient
from shipway.front.envoy import Admin
from shipway.front.exchange import FOLDER
from shipway.front.resources import admin_socket

PAUSE_S = 0.1


def until_quiet(state: StateDirectory, within_s: float) -> bool:
    """Waits until all requests are answered and no new ones arrive. False if that takes longer.

    Returns True at once for a server that does not answer.
    """
    deadline = time.monotonic() + within_s
    try:
        record = state.require_running()
        with closing(ManagementClient(state)) as management:
            front = Admin(admin_socket(Path(record.launch) / FOLDER))
            asked = _requests_so_far(record), front.requests().total
            while time.monotonic() < deadline:
                for one in management.models():
                    left_s = deadline - time.monotonic()
                    if not management.await_answers(one, within_s=left_s):
                        return False
                at_the_front = front.requests()
                before, asked = asked, (_requests_so_far(record), at_the_front.total)
                if asked == before and not at_the_front.active:
                    return True
                time.sleep(PAUSE_S)
    except (ServerError, httpx.HTTPError, OSError, ValueError):
        return True
    return False


def refuse_connections(record: ServerRecord) -> None:
    """Closes the addresses of the front, if there is one, so that nobody connects to what ends."""
    Admin(admin_socket(Path(record.launch) / FOLDER)).stop_listening()


def _requests_so_far(record: ServerRecord) -> float:
    """The number of predictions requested of TorchServe since the start; 0 if it does not count
    them."""
    answer = httpx.get(
        f"{record.addresses.metrics}/metrics",
        params={"name[]": "ts_inference_requests_total"},
        verify=record.trust,
        trust_env=False,
    )
    counts = re.findall(r"^ts_inference_requests_total\{.*\} (\S+)$", answer.text, re.MULTILINE)
    return sum(map(float, counts))
