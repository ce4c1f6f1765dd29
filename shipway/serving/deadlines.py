"""Whether a request can still be answered in time."""

import math

from shipway.payloads.errors import BadRequest, DeadlinePassed
from shipway.payloads.request import Request

SENT = "x-request-start"
"""When a proxy or client sent a request: seconds since 1970, as nginx's `t=${msec}` writes it, or
milliseconds, or microseconds."""
WITHIN = "x-envoy-expected-rq-timeout-ms"
"""How long after that it must be answered, in milliseconds. Envoy sets it by itself."""

LATELY_S = 1.0


class Deadlines:
    """Refuses what would be answered too late, before anything is done for it.

    A queue that is served in order hands out, under overload, the requests that have waited
    longest. If those whose time is not quite up were run, most would be answered too late all the
    same. So what is left must be enough for a batch as long as they take now.
    """

    def __init__(self) -> None:
        self._mean_s = self._deviation_s = 0.0
        self._last_run = -math.inf

    def check(self, request: Request, now: float) -> None:
        """Raises DeadlinePassed, or BadRequest for a deadline that is no number. `now` is in
        seconds since 1970."""
        if not (within := request.said(WITHIN)):
            return
        within_ms = _number(within)
        if within_ms is None:
            raise BadRequest(
                f"{WITHIN} is {within[:40]!r}; a number of milliseconds above 0 is expected."
            )
        sent = sent_at(request)
        waited_ms = 0.0 if sent is None else max(0.0, 1000 * (now - sent))
        needed_ms = 1000 * self._needed_s(now)
        if waited_ms + needed_ms >= within_ms:
            raise DeadlinePassed(
                f"The request may take {within_ms:.0f} ms; it has waited for {waited_ms:.0f}, and "
                f"an answer takes {needed_ms:.0f} now. Ask again when the server has less to do, "
                "or give it more time."
            )

    def ran(self, took_s: float, now: float) -> None:
        """Notes a batch: its time in the handler, and when it began."""
        # RFC 6298's estimate of what an answer takes at most, with its weights.
        if self._mean_s:
            self._deviation_s += (abs(took_s - self._mean_s) - self._deviation_s) / 4
            self._mean_s += (took_s - self._mean_s) / 8
        else:
            self._mean_s, self._deviation_s = took_s, took_s / 2
        self._last_run = now

    def _needed_s(self, now: float) -> float:
        # What was long ago says nothing: one slow batch must not have all others refused for good.
        if now - self._last_run > LATELY_S:
            return 0.0
        return self._mean_s + 4 * self._deviation_s


def sent_at(request: Request) -> float | None:
    """Seconds since 1970; None where nothing, or nothing sensible, says so."""
    since = _number(request.said(SENT).removeprefix("t="))
    if since is None:
        return None
    # Some proxies write milliseconds or microseconds; as seconds these would be ages away.
    return since / 1e6 if since > 1e14 else since / 1e3 if since > 1e11 else since


def _number(text: str) -> float | None:
    """A finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number < math.inf else None
